package server

import (
	"errors"
	"log/slog"
	"net/http"
	"runtime"
	"strconv"
	"time"
)

// ServeHTTP answers one request. It is the only place that writes errors, counts requests and catches panics.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := newCall(w, r)
	rt, st, e := s.router.find(r, &c.params)
	s.serve(c, rt, st, e)
}

// serve answers the request of c, which is for the given route, or for none because of e.
func (s *Server) serve(c *call, rt *route, st style, e *Error) {
	start := time.Now()
	h := c.w.Header()
	h["Cache-Control"] = noStore
	h["X-Content-Type-Options"] = noSniff
	defer s.recoverPanic(c, start)

	var err error
	if e != nil {
		err = e
	} else {
		c.route = rt
		err = s.run(c)
	}
	if err != nil {
		s.writeError(c, st, err)
	}
	s.done(c, start)
	c.free()
}

// run asks the guards, then the handler.
func (s *Server) run(c *call) error {
	if len(c.r.TransferEncoding) > 0 {
		// A chunked body may have come with a Content-Length as well, which net/http drops in silence. Whatever follows
		// on such a connection is not trusted to be a request (RFC 9112, section 6.1).
		c.w.Header()["Connection"] = closing
	}
	if err := s.guard(c); err != nil {
		return err
	}
	if err := s.authenticate(c); err != nil {
		return err
	}
	return c.route.handle(s, c)
}

// done counts the request and, at debug level, logs it. The path stays out of both: it has names and keys in it.
func (s *Server) done(c *call, start time.Time) {
	took := time.Since(start)
	stats, pattern := s.unrouted, "none"
	if c.route != nil {
		stats, pattern = c.route.stats, c.route.pattern
	}
	stats.observe(c.status, took)
	if s.log.Enabled(c.ctx(), slog.LevelDebug) {
		s.log.Debug("request", "method", knownMethod(c.r.Method), "route", pattern, "status", c.status, "took", took.Round(time.Microsecond).String())
	}
}

// knownMethod keeps text of the client's choice out of the log.
func knownMethod(m string) string {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return m
	}
	return "other"
}

// writeError answers with err in the given style. If the client is gone or the answer has begun, it cuts the connection or
// resets the stream instead: to return without an answer would be an empty 200.
func (s *Server) writeError(c *call, st style, err error) {
	if errors.Is(err, errGone) {
		panic(http.ErrAbortHandler)
	}
	e := asError(err)
	s.logError(c, e)
	if c.status != 0 {
		// Half an answer is out; cutting the connection is the only way to say that the rest will not come.
		panic(http.ErrAbortHandler)
	}
	s.errorHeaders(c, e)
	var body []byte
	var ct []string
	switch st {
	case stylePlain:
		body, ct = append(c.buf[:0], e.Detail...), plainType
	case styleClassic:
		body, ct = s.appendClassicError(c.buf[:0], e), jsonType
	default:
		body, ct = appendProblem(c.buf[:0], e, s.daytimeOfError(e)), problemType
	}
	c.buf = body
	_ = c.answer(e.status(), ct, body)
}

func (s *Server) errorHeaders(c *call, e *Error) {
	h := c.w.Header()
	info := codeTable[e.Code]
	if info.retryAfter != "" {
		h["Retry-After"] = []string{info.retryAfter}
	}
	if e.allow != "" {
		h["Allow"] = []string{e.allow}
	}
	switch e.Code {
	case CodeUnauthorized:
		h["Www-Authenticate"] = bearer
	case CodeTokenMissing:
		h["Www-Authenticate"] = fencing
	}
	c.leaveBody()
	if e.Code == CodeBodyTimeout && c.r.ProtoMajor == 1 {
		h["Connection"] = closing
	}
}

// leaveBody makes ready for an answer before the request's body was read: net/http would wait for the body first.
func (c *call) leaveBody() {
	if c.r.ContentLength != 0 && !c.bodyRead && c.r.ProtoMajor == 1 {
		c.w.Header()["Connection"] = closing
	}
}

// logError writes down what the operator has to know: mistakes of the server. Refusals are counted, not logged.
func (s *Server) logError(c *call, e *Error) {
	if e.Code != CodeInternal {
		return
	}
	s.log.Error("a request failed inside the server", "route", c.pattern(), "error", e.cause)
}

func (c *call) pattern() string {
	if c.route == nil {
		return "none"
	}
	return c.route.pattern
}

// recoverPanic turns a panic into an answer of 500. What was passed to panic may contain a key, so only its type and
// the places of the code are logged.
func (s *Server) recoverPanic(c *call, start time.Time) {
	p := recover()
	if p == nil {
		return
	}
	if p == http.ErrAbortHandler { // as net/http compares it
		s.done(c, start)
		panic(p)
	}
	s.log.Error("a handler panicked", "route", c.pattern(), "type", typeName(p), "at", places())
	began := c.status != 0
	if !began {
		st := styleProblem
		if c.route != nil {
			st = c.route.style
		}
		s.writeError(c, st, fail(CodeInternal, "Something went wrong inside the server."))
	}
	s.done(c, start)
	if began {
		panic(http.ErrAbortHandler)
	}
}

func typeName(p any) string {
	if e, ok := p.(runtime.Error); ok {
		return e.Error() // an index or a nil pointer; made by the runtime
	}
	switch p.(type) {
	case error:
		return "error"
	case string:
		return "string"
	}
	return "other"
}

// places lists the functions and lines of the stack, without the arguments that a usual trace shows.
func places() []string {
	pc := make([]uintptr, 32)
	frames := runtime.CallersFrames(pc[:runtime.Callers(3, pc)])
	var out []string
	for {
		f, more := frames.Next()
		out = append(out, f.Function+":"+strconv.Itoa(f.Line))
		if !more {
			return out
		}
	}
}
