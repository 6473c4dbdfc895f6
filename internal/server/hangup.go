package server

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"time"
)

// A client that hangs up while it waits must leave the queue. On HTTP/1, net/http notices an end of the connection by
// reading ahead while the handler runs, but only up to the first byte: after a late line end or a pipelined request it
// reads no further, and sees no end either. Nor does it read ahead while a request's own body has not been read. So, as
// long as a request waits and nobody reads from its connection, the connection itself is asked, below TLS.

// parked is a request that waits, and the connection that it came by. A nil *parked, for HTTP/2 and for connections that
// are not the listener's, watches nothing.
type parked struct {
	conn   *limitedConn
	cancel context.CancelFunc

	mu    sync.Mutex // guards what follows
	timer *time.Timer
	left  bool
}

type connKey struct{}

// withConn lets the requests of a connection find it.
func withConn(ctx context.Context, conn net.Conn) context.Context {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	if c, ok := conn.(*limitedConn); ok {
		return context.WithValue(ctx, connKey{}, c)
	}
	return ctx
}

// park begins a wait. The context that it returns ends when the client hangs up. The wait must be left.
func park(r *http.Request) (context.Context, *parked) {
	ctx := r.Context()
	conn, ok := ctx.Value(connKey{}).(*limitedConn)
	if !ok || r.ProtoMajor != 1 {
		return ctx, nil
	}
	p := &parked{conn: conn}
	ctx, p.cancel = context.WithCancel(ctx)
	conn.parked.Store(p)
	if !conn.reading.Load() {
		p.watch()
	}
	return ctx, p
}

// leave ends the wait.
func (p *parked) leave() {
	if p == nil {
		return
	}
	p.conn.parked.Store(nil)
	p.mu.Lock()
	p.left = true
	if p.timer != nil {
		p.timer.Stop()
	}
	p.mu.Unlock()
	p.cancel()
}

// watch has look called in a while.
func (p *parked) watch() {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.left:
	case p.timer == nil:
		p.timer = time.AfterFunc(hangupCheck, p.look)
	default:
		p.timer.Reset(hangupCheck)
	}
}

// look ends the wait of a client that hung up. While somebody reads there is nothing to do: the reader sees an end, and
// watch is called when data ends its reading.
func (p *parked) look() {
	if p.conn.reading.Load() {
		return
	}
	if hungUp(p.conn.raw) {
		p.cancel()
		return
	}
	p.watch()
}

// gone tells whether the client has hung up by now, where that can be seen at once.
func (p *parked) gone() bool {
	return p != nil && seesHangups && p.conn.raw != nil && hungUp(p.conn.raw)
}

// turnedAway tells whether the answer to a client that has ended its sending half, or its connection, was turned away. The
// system of a client that is gone answers with a reset, for which a moment is waited here.
func turnedAway(r *http.Request) bool {
	conn, ok := r.Context().Value(connKey{}).(*limitedConn)
	if !ok || r.ProtoMajor != 1 || conn.raw == nil || !seesHangups {
		return true // HTTP/2 tells the ends apart; elsewhere nobody can
	}
	t := time.NewTicker(resetCheck)
	defer t.Stop()
	for range resetChecks {
		if wasReset(conn.raw) {
			return true
		}
		<-t.C
	}
	return wasReset(conn.raw)
}

// Read reads from the connection, and keeps watch over it if that leaves nobody reading while a request waits.
func (c *limitedConn) Read(b []byte) (int, error) {
	c.reading.Store(true)
	n, err := c.Conn.Read(b)
	c.reading.Store(false)
	if n > 0 {
		if p := c.parked.Load(); p != nil {
			p.watch()
		}
	}
	return n, err // as they are: net/http and TLS look at them
}
