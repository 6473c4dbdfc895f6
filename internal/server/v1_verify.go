package server

import (
	"bytes"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

// fence is what a token is asked about: whether it is that of the newest grant of the lock, and still held.
type fence struct {
	name  string
	token uint64
	valid bool
}

// verifyBody is the body of POST /v1/verify: one token, or many.
type verifyBody struct {
	one  fence
	many []fence
}

var (
	fenceMembers = []member[fence]{
		set("name", readNonEmpty, func(f *fence) *string { return &f.name }),
		set("token", readToken, func(f *fence) *uint64 { return &f.token }),
	}
	verifyMembers = []member[verifyBody]{
		set("name", readNonEmpty, func(b *verifyBody) *string { return &b.one.name }),
		set("token", readToken, func(b *verifyBody) *uint64 { return &b.one.token }),
		set("tokens", readFences, func(b *verifyBody) *[]fence { return &b.many }),
	}
)

var errFences = errors.New(`must be an array, each of whose elements is an object such as {"name": "a", "token": 42}`)

func readFences(v jsontext.Value) ([]fence, error) {
	if v.Kind() != '[' {
		return nil, errFences
	}
	dec := jsontext.NewDecoder(bytes.NewReader(v))
	if _, err := dec.ReadToken(); err != nil {
		return nil, errFences
	}
	var out []fence
	for dec.PeekKind() != ']' {
		e, err := dec.ReadValue()
		if err != nil {
			return nil, errFences
		}
		f, err := readFence(e)
		if err != nil {
			return nil, errors.New("is wrong at element " + strconv.Itoa(len(out)+1) + ": " + err.Error())
		}
		if out = append(out, f); len(out) > maxVerified {
			return nil, errors.New("must have at most " + strconv.Itoa(maxVerified) + " elements")
		}
	}
	if len(out) == 0 {
		return nil, errNamesEmpty
	}
	return out, nil
}

// readFence reads one element of tokens. Its error goes on in the middle of a sentence.
func readFence(v jsontext.Value) (fence, error) {
	var f fence
	if v.Kind() != '{' {
		return f, errors.New("it is no object")
	}
	err := decodeObject(jsontext.NewDecoder(bytes.NewReader(v)), &f, fenceMembers)
	switch {
	case err != nil:
		detail := asError(err).Detail
		return f, errors.New(strings.ToLower(detail[:1]) + strings.TrimSuffix(detail[1:], "."))
	case f.name == "":
		return f, errors.New("it has no name")
	case f.token == 0:
		return f, errors.New("it has no token")
	}
	return f, nil
}

// verifyToken answers POST /v1/verify.
func (s *Server) verifyToken(c *call) error {
	var body verifyBody
	if err := readBody(c, &body, verifyMembers); err != nil {
		return err
	}
	asked := []fence{body.one}
	switch {
	case body.many != nil && body.one != fence{}:
		return failField("tokens", "The member tokens does not go with name and token.")
	case body.many != nil:
		asked = body.many
	case body.one.name == "":
		return failField("name", "The member name is missing.")
	case body.one.token == 0:
		return failField("token", "The member token is missing.")
	}
	if err := s.verify(c, asked); err != nil {
		return err
	}
	c.buf = append(appendVerified(c.buf[:0], asked, body.many != nil), '}')
	return c.json(http.StatusOK)
}

// verify finds out which of the tokens are valid, all at one moment after it was called.
func (s *Server) verify(c *call, asked []fence) error {
	err := s.check(c.lasting(), func(set *command.Settings) error {
		for i := range asked {
			if err := locktable.CheckName(set, asked[i].name); err != nil {
				return fail(CodeInvalidName, sentence(err.Error()))
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	newest := make(map[string]uint64, len(asked)) // no lock is looked at twice, since it may have many holders
	err = s.backend.Read(c.lasting(), func(t *locktable.Table, now locktable.Time) {
		for i := range asked {
			f := &asked[i]
			token, known := newest[f.name]
			if !known {
				token = t.Newest(f.name, now)
				newest[f.name] = token
			}
			f.valid = token == f.token
		}
	})
	if err != nil {
		return backendError(c.lasting(), err)
	}
	return nil
}

// appendVerified tells whether all are valid, and of many which are, without the brace at the end.
func appendVerified(b []byte, asked []fence, many bool) []byte {
	all := true
	for i := range asked {
		all = all && asked[i].valid
	}
	b = strconv.AppendBool(append(b, `{"valid":`...), all)
	if !many {
		return b
	}
	b = append(b, `,"results":[`...)
	for i := range asked {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"name":`...)
		b = appendString(b, asked[i].name)
		b = append(b, `,"token":`...)
		b = strconv.AppendUint(b, asked[i].token, 10)
		b = append(b, `,"valid":`...)
		b = append(strconv.AppendBool(b, asked[i].valid), '}')
	}
	return append(b, ']')
}
