package plainhttp

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

const (
	// The largest plain request.
	bufferSize = 4 << 10
	// How long the rest of a request may take before net/http gets the connection.
	restTimeout = time.Second
	// A deadline is set anew when it has come closer by so much.
	deadlineStep = time.Second
	// How long a connection that has never said anything may take to do so when the listener closes.
	lastCall = time.Second
)

// What a connection is about.
const (
	fresh  int32 = iota // nothing has come yet
	active              // a request is being read or answered
	idle                // between two requests
	gone                // closed by the listener
)

// conn is a connection that is served here. Its fields belong to the goroutine that serves it, except state and nc.
type conn struct {
	ln    *Listener
	nc    net.Conn
	state atomic.Int32

	in         parser
	req        *http.Request
	res        response
	buf        []byte
	start, end int       // of what was read and not answered, in buf
	answered   bool      // something was
	readBy     time.Time // the deadlines of nc; zero: unknown
	writeBy    time.Time
}

func newConn(l *Listener, nc net.Conn, ctx context.Context) *conn {
	c := &conn{ln: l, nc: nc, buf: make([]byte, bufferSize)}
	c.req = newRequest(nc.RemoteAddr().String()).WithContext(ctx)
	c.res.c = c
	return c
}

// serve answers requests until one comes that is not plain, or none any more.
func (c *conn) serve() {
	handed := false
	defer func() {
		// Of a panic the handler has said what there is to say; as with net/http, it costs one connection and not all.
		_ = recover()
		if !handed {
			_ = c.nc.Close()
		}
		c.ln.leave(c)
	}()
	for c.await() {
		n, v := c.next()
		switch {
		case v == nothing:
			return
		case v != plain || !c.answer(n):
			handed = true
			c.handOver()
			return
		case !c.res.finish():
			return
		}
		c.answered = true
	}
}

// next looks at what has come, and waits for the rest of what may become a plain request. After one was answered, net/http makes
// nothing of a few bytes that nothing follows, so nothing is made of them here.
func (c *conn) next() (n int, v verdict) {
	var by time.Time // the whole rest, or who sends a byte now and then could stay for ever
	for {
		n, v = c.in.parse(c.buf[c.start:c.end])
		crumbs := c.answered && c.end-c.start < len("GET ")
		if v != partial && (v != other || !crumbs) {
			return n, v
		}
		if by.IsZero() {
			by = time.Now().Add(restTimeout)
		}
		before := c.end - c.start
		switch err := c.readRest(by); {
		case crumbs && c.end-c.start == before && errors.Is(err, io.EOF):
			return 0, nothing
		case err != nil:
			return 0, other
		}
	}
}

// await returns when something has come that is not answered, or false when nothing will.
func (c *conn) await() bool {
	if c.start < c.end {
		return true
	}
	if c.state.CompareAndSwap(active, idle) && c.ln.closing.Load() {
		return false
	}
	now, silence := time.Now(), c.ln.config.IdleTimeout
	if c.state.Load() == fresh {
		silence = c.ln.config.FirstTimeout
	}
	if c.readBy.Sub(now) < silence {
		c.readBy = now.Add(silence + deadlineStep)
		_ = c.nc.SetReadDeadline(c.readBy)
		if c.ln.closing.Load() {
			c.leaveIdle() // that it was told to has just been undone
		}
	}
	n, err := c.nc.Read(c.buf)
	c.start, c.end = 0, n
	if n == 0 && err == nil {
		return c.await()
	}
	return n > 0 && c.state.Swap(active) != gone
}

// leaveIdle closes the connection if it is idle, and gives it a moment to say something if it never has. It may be called
// from any goroutine.
func (c *conn) leaveIdle() {
	switch {
	case c.state.CompareAndSwap(idle, gone):
		_ = c.nc.Close()
	case c.state.Load() == fresh:
		_ = c.nc.SetReadDeadline(time.Now().Add(lastCall))
	}
}

// readRest reads more of a request, and fails if nothing comes in time or it is too large.
func (c *conn) readRest(by time.Time) error {
	if c.start > 0 {
		c.end = copy(c.buf, c.buf[c.start:c.end])
		c.start = 0
	}
	if c.end == len(c.buf) {
		return errTooLarge
	}
	_ = c.nc.SetReadDeadline(by)
	c.readBy = time.Time{}
	n, err := c.nc.Read(c.buf[c.end:])
	c.end += n
	return err
}

var errTooLarge = errors.New("plainhttp: no plain request")

// answer has the request answered that takes the next n bytes, or returns false if net/http is to do that.
func (c *conn) answer(n int) bool {
	c.in.request(c.req)
	c.res.begin()
	if !c.ln.config.Serve(&c.res, c.req) {
		return false
	}
	c.start += n
	return true
}

// write writes to the connection.
func (c *conn) write(b []byte, now time.Time) error {
	if c.writeBy.Sub(now) < c.ln.config.WriteTimeout {
		c.writeBy = now.Add(c.ln.config.WriteTimeout + deadlineStep)
		_ = c.nc.SetWriteDeadline(c.writeBy)
	}
	_, err := c.nc.Write(b)
	return err
}

// handOver passes the connection on to net/http, with what was read but not answered.
func (c *conn) handOver() {
	_ = c.nc.SetDeadline(time.Time{})
	c.ln.hand(&handedConn{Conn: c.nc, before: c.buf[c.start:c.end:c.end]})
}

// handedConn is a connection of which something has been read.
type handedConn struct {
	net.Conn
	before []byte
}

// NetConn returns the connection below.
func (c *handedConn) NetConn() net.Conn { return c.Conn }

// Read reads what was read before, and then from the connection.
func (c *handedConn) Read(b []byte) (int, error) {
	if len(c.before) == 0 {
		return c.Conn.Read(b)
	}
	n := copy(b, c.before)
	if c.before = c.before[n:]; len(c.before) == 0 {
		c.before = nil
	}
	return n, nil
}
