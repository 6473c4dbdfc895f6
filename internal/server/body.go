package server

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

// member says how one member of a JSON object is read into T.
type member[T any] struct {
	name string
	// read gets the raw value. Its error is a sentence that goes on after the member's name: "must be …".
	read func(into *T, v jsontext.Value) error
}

var bodies = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// readBody reads a JSON object from the call's body into a T. No body at all is an empty object. Unknown, repeated and
// null members, wrong types and anything after the object are refused with a message that names the member.
func readBody[T any](c *call, into *T, members []member[T]) error {
	buf, _ := bodies.Get().(*bytes.Buffer)
	defer func() {
		if buf.Cap() <= maxKeptBuffer {
			clear(buf.Bytes()) // there may be keys in it
			buf.Reset()
			bodies.Put(buf)
		}
	}()
	if err := slurp(c, buf); err != nil {
		return err
	}
	if buf.Len() == 0 {
		return nil
	}
	if !isJSON(c.r.Header["Content-Type"]) {
		return fail(CodeUnsupportedMedia, "Send the body as JSON, with the header Content-Type: application/json.")
	}
	return decodeObject(buf.Bytes(), into, members)
}

func slurp(c *call, buf *bytes.Buffer) error {
	if c.r.ContentLength > maxBodyBytes {
		return errBodyTooLarge
	}
	_, err := buf.ReadFrom(io.LimitReader(c.r.Body, maxBodyBytes+1))
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fail(CodeBodyTimeout, "The body did not arrive within "+secondsText(readTimeout)+" seconds.")
	case err != nil && c.ctx().Err() != nil:
		return errGone
	case err != nil:
		return &Error{Code: CodeInvalidRequest, Detail: "The body could not be read.", cause: err}
	case buf.Len() > maxBodyBytes:
		return errBodyTooLarge
	}
	return nil
}

var errBodyTooLarge = fail(CodeBodyTooLarge, "The body may have at most "+strconv.Itoa(maxBodyBytes)+" bytes.")

func isJSON(contentType []string) bool {
	if len(contentType) != 1 {
		return false
	}
	if contentType[0] == "application/json" {
		return true
	}
	t, params, err := mime.ParseMediaType(contentType[0])
	charset, has := params["charset"]
	return err == nil && t == "application/json" && (!has || strings.EqualFold(charset, "utf-8"))
}

// decodeObject reads data, which must be exactly one JSON object.
func decodeObject[T any](data []byte, into *T, members []member[T]) error {
	dec := jsontext.NewDecoder(bytes.NewBuffer(data))
	if dec.PeekKind() != '{' {
		return fail(CodeInvalidBody, "The body must be a JSON object.")
	}
	if _, err := dec.ReadToken(); err != nil {
		return syntaxError(err)
	}
	for dec.PeekKind() == '"' {
		tok, err := dec.ReadToken()
		if err != nil {
			return syntaxError(err)
		}
		name := tok.String()
		v, err := dec.ReadValue()
		if err != nil {
			return syntaxError(err)
		}
		if err := decodeMember(name, v, into, members); err != nil {
			return err
		}
	}
	if _, err := dec.ReadToken(); err != nil {
		return syntaxError(err)
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return fail(CodeInvalidBody, "There is something after the JSON object.")
	}
	return nil
}

func decodeMember[T any](name string, v jsontext.Value, into *T, members []member[T]) error {
	for i := range members {
		if members[i].name != name {
			continue
		}
		if v.Kind() == 'n' {
			return failField(name, "The member "+name+" must not be null; leave it out instead.")
		}
		if err := members[i].read(into, v); err != nil {
			return failField(name, "The member "+name+" "+err.Error()+".")
		}
		return nil
	}
	return unknownMember(name, members)
}

func unknownMember[T any](name string, members []member[T]) error {
	for i := range members {
		if strings.EqualFold(members[i].name, name) {
			return failField(short(name), "There is no member "+quoteShort(name)+"; it is written "+members[i].name+".")
		}
	}
	return failField(short(name), "There is no member "+quoteShort(name)+" here.")
}

// Longer names than this are cut before they are told back, so that a key in the wrong place is not.
const maxEcho = 24

func short(s string) string {
	if len(s) > maxEcho {
		s = strings.ToValidUTF8(s[:maxEcho], "") + "…"
	}
	return s
}

func quoteShort(s string) string { return strconv.Quote(short(s)) }

func syntaxError(err error) error {
	var syn *jsontext.SyntacticError
	if errors.As(err, &syn) && errors.Is(err, jsontext.ErrDuplicateName) {
		name := syn.JSONPointer.LastToken()
		return failField(short(name), "The member "+quoteShort(name)+" is there twice.")
	}
	if errors.As(err, &syn) {
		return fail(CodeInvalidBody, "The body is not valid JSON; the mistake is at or before byte "+strconv.FormatInt(syn.ByteOffset, 10)+".")
	}
	return fail(CodeInvalidBody, "The body is not valid JSON; it ends too early.")
}
