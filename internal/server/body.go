package server

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"net/http"
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

// bodyReader is what reading one body needs; it is kept for the next one.
type bodyReader struct {
	buf bytes.Buffer
	dec jsontext.Decoder
}

var bodies = sync.Pool{New: func() any { return new(bodyReader) }}

func (b *bodyReader) free() {
	if b.buf.Cap() > maxKeptBuffer {
		return
	}
	b.buf.Reset()
	clear(b.buf.AvailableBuffer()[:b.buf.Available()]) // there may be keys in it
	bodies.Put(b)
}

// readBody reads a JSON object from the call's body into a T. No body at all is an empty object. Unknown, repeated and
// null members, wrong types and anything after the object are refused with a message that names the member.
func readBody[T any](c *call, into *T, members []member[T]) error {
	if c.r.ContentLength == 0 {
		return nil
	}
	b, _ := bodies.Get().(*bodyReader)
	defer b.free()
	if err := slurp(c, &b.buf); err != nil {
		return err
	}
	if b.buf.Len() == 0 {
		return nil
	}
	if !isJSON(c.r.Header["Content-Type"]) {
		return fail(CodeUnsupportedMedia, "Send the body as JSON, with the header Content-Type: application/json.")
	}
	b.dec.Reset(&b.buf)
	return decodeObject(&b.dec, into, members)
}

func slurp(c *call, buf *bytes.Buffer) error {
	if c.r.ContentLength > maxBodyBytes {
		return errBodyTooLarge
	}
	c.bodyRead = true
	if whole, ok := c.r.Body.(interface{ Bytes() []byte }); ok { // all of a plain request is there
		_, _ = buf.Write(whole.Bytes())
		return nil
	}
	_, err := buf.ReadFrom(http.MaxBytesReader(c.w, c.r.Body, maxBodyBytes))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return errBodyTooLarge
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fail(CodeBodyTimeout, "The body did not arrive within "+secondsText(readTimeout)+" seconds.")
	case err != nil && c.ctx().Err() != nil:
		return errGone
	case err != nil:
		return &Error{Code: CodeInvalidRequest, Detail: "The body could not be read.", cause: err}
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

// decodeObject reads exactly one JSON object.
func decodeObject[T any](dec *jsontext.Decoder, into *T, members []member[T]) error {
	if dec.PeekKind() != '{' {
		return fail(CodeInvalidBody, "The body must be a JSON object.")
	}
	if _, err := dec.ReadToken(); err != nil {
		return syntaxError(err)
	}
	for dec.PeekKind() == '"' {
		name, err := dec.ReadValue()
		if err != nil {
			return syntaxError(err)
		}
		m := findMember(name, members)
		if m == nil {
			return unknownMember(unquote(name), members)
		}
		v, err := dec.ReadValue()
		if err != nil {
			return syntaxError(err)
		}
		if err := m.take(v, into); err != nil {
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

// findMember returns the member with the given name, which is still in its quotes.
func findMember[T any](quoted jsontext.Value, members []member[T]) *member[T] {
	name := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(name, '\\') >= 0 {
		name = []byte(unquote(quoted))
	}
	for i := range members {
		if members[i].name == string(name) {
			return &members[i]
		}
	}
	return nil
}

func (m *member[T]) take(v jsontext.Value, into *T) error {
	if v.Kind() == 'n' {
		return failField(m.name, "The member "+m.name+" must not be null; leave it out instead.")
	}
	if err := m.read(into, v); err != nil {
		return failField(m.name, "The member "+m.name+" "+err.Error()+".")
	}
	return nil
}

// unquote returns the string that the JSON string v, which the decoder has found to be valid, spells.
func unquote(v jsontext.Value) string {
	if bytes.IndexByte(v, '\\') < 0 {
		return string(v[1 : len(v)-1])
	}
	s, _ := jsontext.AppendUnquote(nil, v)
	return string(s)
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
