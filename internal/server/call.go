package server

import (
	"context"
	"net/http"
	"strconv"
	"sync"
)

// call is one request on its way through a handler. It belongs to the handler's goroutine and is reused afterwards.
type call struct {
	w      http.ResponseWriter
	r      *http.Request
	route  *route
	params [maxParams]string
	// status is what was answered; 0 as long as nothing was.
	status int
	// bodyRead says that the body was read, or tried to be.
	bodyRead bool
	// buf is scratch for the body of the answer.
	buf []byte
}

var calls = sync.Pool{New: func() any { return &call{buf: make([]byte, 0, 1024)} }}

// Buffers that grew beyond this are left to the collector.
const maxKeptBuffer = 16 << 10

func newCall(w http.ResponseWriter, r *http.Request) *call {
	c, _ := calls.Get().(*call)
	c.w, c.r = w, r
	return c
}

func (c *call) free() {
	if cap(c.buf) > maxKeptBuffer {
		return
	}
	*c = call{buf: c.buf[:0]}
	calls.Put(c)
}

func (c *call) ctx() context.Context { return c.r.Context() }

// lasting is the context of what does not wait: it goes on when the connection ends, since that may be the end of its sending half
// only, as `nc -N` does it.
func (c *call) lasting() context.Context {
	ctx := c.r.Context()
	if ctx.Done() == nil {
		return ctx // as for all plain requests
	}
	return context.WithoutCancel(ctx)
}

// Header values are shared between all answers; net/http reads them only.
var (
	plainType   = []string{"text/plain; charset=utf-8"}
	jsonType    = []string{"application/json"}
	problemType = []string{"application/problem+json"}
	noStore     = []string{"no-store"}
	noSniff     = []string{"nosniff"}
	bearer      = []string{`Bearer realm="doubledutch"`}
	fencing     = []string{`Lock-Token realm="doubledutch"`}
	closing     = []string{"close"}
)

// lengths holds Content-Length values of short bodies.
var lengths = func() (l [512][]string) {
	for i := range l {
		l[i] = []string{strconv.Itoa(i)}
	}
	return l
}()

// answer writes a whole answer. The error says that the client cannot have got it; only acquires look at it.
func (c *call) answer(status int, contentType []string, body []byte) error {
	h := c.w.Header()
	h["Content-Type"] = contentType
	if n := len(body); n < len(lengths) {
		h["Content-Length"] = lengths[n]
	} else {
		h["Content-Length"] = []string{strconv.Itoa(n)}
	}
	c.status = status
	c.w.WriteHeader(status)
	if c.r.Method == http.MethodHead {
		return nil
	}
	_, err := c.w.Write(body)
	return err
}

// text answers 200 and exactly s.
func (c *call) text(s string) error {
	c.buf = append(c.buf[:0], s...)
	return c.answer(http.StatusOK, plainType, c.buf)
}

// json answers with the JSON that the caller built in c.buf.
func (c *call) json(status int) error { return c.answer(status, jsonType, c.buf) }
