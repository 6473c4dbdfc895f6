package peer

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// raftLayer is the raft.StreamLayer of a Peer.
type raftLayer struct {
	p      *Peer
	conns  chan *conn
	once   sync.Once
	closed chan struct{}
}

func newRaftLayer(p *Peer) *raftLayer {
	return &raftLayer{p: p, conns: make(chan *conn), closed: make(chan struct{})}
}

// offer hands a connection to Accept, or ends it when nobody takes it in time.
func (l *raftLayer) offer(c *conn) {
	t := time.NewTimer(raftAcceptTimeout)
	defer t.Stop()
	select {
	case l.conns <- c:
	case <-t.C:
		c.abort()
	case <-l.closed:
		c.abort()
	}
}

// Accept is that of net.Listener: only connections of raft, their handshakes done.
func (l *raftLayer) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Dial connects within timeout, or within 5 s if that is less.
func (l *raftLayer) Dial(addr raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	if timeout <= 0 {
		timeout = handshakeTimeout
	}
	select {
	case <-l.closed:
		return nil, unreachable(string(addr), net.ErrClosed)
	default:
	}
	ctx, cancel := context.WithTimeout(l.p.ctx, timeout)
	defer cancel()
	c, err := l.p.dialCounted(ctx, string(addr), Raft)
	if err != nil {
		return nil, err // and not a nil *conn
	}
	return c, nil
}

// Addr is the advertised address.
func (l *raftLayer) Addr() net.Addr { return l.p.addr }

// Close ends Accept and raft's connections.
func (l *raftLayer) Close() error {
	l.once.Do(func() { close(l.closed) })
	for _, c := range l.p.connections() {
		if _, kind := c.who(); kind == Raft {
			c.abort()
		}
	}
	return nil
}
