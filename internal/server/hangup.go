package server

import (
	"context"
	"net"
	"net/http"
	"time"
)

// A client that hangs up while it waits must leave the queue. Nobody reads from the connection of a plain request while it is
// handled, and net/http reads ahead only up to the first byte: after a late line end or a pipelined request it sees no end
// either. So, as long as a request waits, the system is asked to tell of the end of its connection, below TLS and whatever
// has been read.

// parked is a request that waits, and the connection that it came by. A nil *parked, for HTTP/2 and for connections that
// are not the listener's, watches nothing.
type parked struct {
	conn   *limitedConn
	cancel context.CancelFunc
	watch  uint64
}

type connKey struct{}

// withConn lets the requests of a connection find it.
func withConn(ctx context.Context, conn net.Conn) context.Context {
	if above, ok := conn.(interface{ NetConn() net.Conn }); ok { // TLS, or a connection that began with plain requests
		conn = above.NetConn()
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
	p.watch = watchHangup(conn.raw, p.cancel)
	return ctx, p
}

// leave ends the wait.
func (p *parked) leave() {
	if p != nil {
		forgetHangup(p.conn.raw, p.watch)
		p.cancel()
	}
}

// gone tells whether the client has hung up by now, where that can be seen at once.
func (p *parked) gone() bool { return p != nil && p.conn.gone() }

func (c *limitedConn) gone() bool { return seesHangups && c.raw != nil && hungUp(c.raw) }

// hasLeft tells whether the client of an HTTP/1 request has hung up by now, or ended its sending half.
func hasLeft(r *http.Request) bool {
	conn, ok := r.Context().Value(connKey{}).(*limitedConn)
	return r.Context().Err() != nil || ok && r.ProtoMajor == 1 && conn.gone()
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
