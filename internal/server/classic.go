package server

import (
	"net/http"
	"net/url"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

// The classic interface: the query form of the original's later releases. GET /getlock, DELETE /releaselock and GET
// /status, JSON with the members in this order. Query parameters that it does not know are ignored.

// redacted stands where the original showed the token of every lock to everybody.
const redacted = "redacted"

// classicQuery reads the query and looks for the parameters that must be there.
func classicQuery(c *call, required ...string) (url.Values, error) {
	q, err := url.ParseQuery(c.r.URL.RawQuery)
	if err != nil {
		return nil, fail(CodeInvalidRequest, "The part of the address after the question mark cannot be read.")
	}
	for _, p := range required {
		switch {
		case len(q[p]) == 0:
			return nil, failField(p, "The parameter "+p+" is missing.")
		case len(q[p]) > 1:
			return nil, failField(p, "The parameter "+p+" is there more than once.")
		}
	}
	return q, nil
}

func (s *Server) classicGet(c *call) error {
	q, err := classicQuery(c, "lockname")
	if err != nil {
		return err
	}
	lifetime, wait, err := s.classicTimes(c, q)
	if err != nil {
		return err
	}
	name := q.Get("lockname")
	out, a, err := s.oldAcquire(c, name, lifetime, wait)
	if err != nil {
		return err
	}
	if out.Code != locktable.Granted {
		c.buf = s.appendClassicLock(c.buf[:0], name, "", false)
		return c.json(http.StatusOK)
	}
	c.buf = s.appendClassicLock(c.buf[:0], name, a.GetKey(), true)
	s.deliver(c, a, visit{ownKey: true}, jsonType, c.buf)
	return nil
}

// classicTimes reads lifetime (default 30 seconds) and timeout (default 0).
func (s *Server) classicTimes(c *call, q url.Values) (lifetime, wait time.Duration, err error) {
	v, ok := q["lifetime"]
	switch {
	case !ok:
		lifetime, err = s.defaultLifetime(c.lasting())
	case len(v) != 1:
		err = failField("lifetime", "The parameter lifetime is there more than once.")
	default:
		lifetime, err = s.lifetime(c, v[0])
	}
	if err != nil {
		return 0, 0, err
	}
	if v, ok := q["timeout"]; ok {
		wait, err = oneTimeout(v)
	}
	return lifetime, wait, err
}

func (s *Server) classicRelease(c *call) error {
	q, err := classicQuery(c, "lockname", "token")
	if err != nil {
		return err
	}
	name := q.Get("lockname")
	released, err := s.oldRelease(c, name, q.Get("token"))
	if err != nil {
		return err
	}
	b := s.appendServerName(c.buf[:0])
	b = append(b, `,"lockname":`...)
	b = appendString(b, name)
	status := http.StatusOK
	if released {
		b = append(b, `,"lockreleased":true}`...)
	} else {
		b, status = append(b, `,"lockreleased":false}`...), http.StatusBadRequest
	}
	c.buf = b
	return c.json(status)
}

// classicStatus lists the locks that are held, in name order. It reads them in steps, so that a long list stands in
// nobody's way; a lock that comes or goes meanwhile may be missed.
func (s *Server) classicStatus(c *call) error {
	b := s.appendServerName(c.buf[:0])
	b = append(b, `,"status":"ok","locks":[`...)
	after, first := "", true
	for more := true; more; {
		page, day, err := s.readLocks(c, "", after, listStep)
		if err != nil {
			return err
		}
		more = len(page) == listStep
		for i := range page {
			after = page[i].Name
			if len(page[i].Holders) == 0 {
				continue
			}
			if !first {
				b = append(b, ',')
			}
			first = false
			b = appendClassicHold(b, &page[i], day.now)
		}
		if b, err = c.stream(b, more); err != nil {
			return errGone
		}
	}
	b = append(b, `]}`...)
	c.buf = b
	if c.status == 0 {
		return c.json(http.StatusOK)
	}
	s.deadline(c)
	_, _ = c.w.Write(b)
	return nil
}

// A streamed answer is sent in pieces of about this size.
const streamPiece = 16 << 10

// stream writes b as the next piece of a long JSON answer if there is more to come and enough of it, and returns what
// is left to write. The first piece sends the header.
func (c *call) stream(b []byte, more bool) ([]byte, error) {
	if !more || len(b) < streamPiece {
		return b, nil
	}
	if c.status == 0 {
		c.w.Header()["Content-Type"] = jsonType
		c.status = http.StatusOK
	}
	_ = http.NewResponseController(c.w).SetWriteDeadline(time.Now().Add(deliverTimeout))
	_, err := c.w.Write(b)
	return b[:0], err
}

// appendClassicHold appends one lock; of several holders the one that stays longest tells the remaining seconds.
func appendClassicHold(b []byte, l *locktable.LockInfo, now locktable.Time) []byte {
	var last locktable.Time
	for i := range l.Holders {
		last = max(last, l.Holders[i].Deadline)
	}
	b = append(b, `{"lockname":`...)
	b = appendString(b, l.Name)
	b = append(b, `,"sessiontoken":"`+redacted+`","remaining":`...)
	b = appendMillis(b, last.Sub(now))
	return append(b, '}')
}

func (s *Server) appendServerName(b []byte) []byte {
	b = append(b, `{"servername":`...)
	return appendString(b, s.name)
}

func (s *Server) appendClassicLock(b []byte, name, key string, acquired bool) []byte {
	b = s.appendServerName(b)
	b = append(b, `,"lockname":`...)
	b = appendString(b, name)
	b = append(b, `,"sessiontoken":`...)
	b = appendString(b, key)
	if acquired {
		return append(b, `,"lockacquired":true}`...)
	}
	return append(b, `,"lockacquired":false}`...)
}

func (s *Server) appendClassicError(b []byte, e *Error) []byte {
	b = s.appendServerName(b)
	b = append(b, `,"error":`...)
	b = appendString(b, e.Detail)
	return append(b, '}')
}
