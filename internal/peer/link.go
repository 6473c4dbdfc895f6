package peer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// link is the way to one address: a session, or an attempt to get one, or the memory of one that failed.
type link struct {
	p    *Peer
	addr string

	mu       sync.Mutex // guards what follows
	session  *session
	attempt  *attempt
	failures int
	retryAt  time.Time
	lastErr  error
}

// attempt is shared by all who call while it lasts.
type attempt struct {
	done    chan struct{} // closed when what follows is set
	session *session
	err     error
}

// link finds the link to addr, or makes one.
func (p *Peer) link(addr string) (*link, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, unreachable(addr, net.ErrClosed)
	}
	l := p.links[addr]
	if l != nil {
		return l, nil
	}
	if len(p.links) >= maxLinks {
		p.sweepLocked()
	}
	if len(p.links) >= maxLinks {
		return nil, unreachable(addr, fmt.Errorf("%d other addresses are being called", maxLinks))
	}
	l = &link{p: p, addr: addr}
	p.links[addr] = l
	return l, nil
}

// sweepLocked forgets links that lead nowhere now. Whoever holds one may still use it. It takes the links' own mutexes
// inside p.mu; nobody does it the other way round.
func (p *Peer) sweepLocked() {
	for addr, l := range p.links {
		l.mu.Lock()
		idle := l.attempt == nil && (l.session == nil || l.session.failed())
		l.mu.Unlock()
		if idle {
			delete(p.links, addr)
		}
	}
}

// connect returns a session that was alive a moment ago.
func (l *link) connect(ctx context.Context) (*session, error) {
	a, s, err := l.lookup()
	if a == nil {
		return s, err
	}
	select {
	case <-a.done:
		return a.session, a.err
	case <-ctx.Done():
		return nil, unreachable(l.addr, cause(ctx))
	}
}

func (l *link) lookup() (*attempt, *session, error) {
	kind := Call
	if l.p.config.Self().ClusterID == "" {
		kind = Join
	}
	l.mu.Lock()
	a, s, err := l.lookupLocked(kind)
	started := a != nil && l.attempt == nil
	if started {
		l.attempt = a
	}
	l.mu.Unlock()
	// Outside of l.mu, as spawn takes p.mu.
	if started && !l.p.spawn(func() { l.dial(a, kind) }) {
		l.finish(a, nil, unreachable(l.addr, net.ErrClosed))
	}
	return a, s, err
}

func (l *link) lookupLocked(kind Kind) (*attempt, *session, error) {
	if s := l.session; s != nil && !s.failed() {
		if s.kind == kind {
			return nil, s, nil
		}
		s.retire() // it was opened before this node knew its cluster
		l.session = nil
	}
	if l.attempt != nil {
		return l.attempt, nil, nil
	}
	if l.lastErr != nil && time.Now().Before(l.retryAt) {
		return nil, nil, l.lastErr
	}
	return &attempt{done: make(chan struct{})}, nil, nil
}

func (l *link) dial(a *attempt, kind Kind) {
	c, err := l.p.dialCounted(l.p.ctx, l.addr, kind)
	if err != nil {
		l.finish(a, nil, err)
		return
	}
	s := newSession(l.addr, c, kind)
	if !l.p.spawn(s.write) || !l.p.spawn(s.read) {
		s.end(net.ErrClosed)
		l.finish(a, nil, unreachable(l.addr, net.ErrClosed))
		return
	}
	l.finish(a, s, nil)
}

func (l *link) finish(a *attempt, s *session, err error) {
	l.mu.Lock()
	l.attempt, l.session, l.lastErr = nil, s, err
	if err == nil {
		l.failures = 0
	} else {
		l.failures++
		l.retryAt = time.Now().Add(backoff(l.failures))
	}
	l.mu.Unlock()
	a.session, a.err = s, err
	close(a.done)
}

// backoff after so many failures in a row, spread by a quarter so that nodes do not go in step.
func backoff(failures int) time.Duration {
	d := min(minBackoff<<min(failures-1, 10), maxBackoff)
	return d - d/8 + rand.N(d/4)
}

func (p *Peer) dialCounted(ctx context.Context, addr string, kind Kind) (*conn, error) {
	c, err := p.dial(ctx, addr, kind)
	if err != nil {
		p.stats.dialFailed.Add(1)
	} else {
		p.stats.dialled.Add(1)
	}
	return c, err
}

// Call sends request to the node at addr and returns its answer, whose memory is the caller's. All calls to an address
// share one connection, which is opened when it is needed. While connecting fails, calls fail at once and attempts are
// made at growing distances, at most half a second. request is at most MaxPayload bytes and must not be changed any
// more, not even after Call has returned. When ctx ends, so does Handle's on the other side, and the error wraps that of
// ctx and also ErrUnreachable or ErrBroken, by what has become of the request.
func (p *Peer) Call(ctx context.Context, addr string, request []byte) ([]byte, error) {
	if len(request) > MaxPayload {
		return nil, unreachable(addr, fmt.Errorf("the request has %d bytes, and %d is the most", len(request), MaxPayload))
	}
	err := errRetired
	for range 3 {
		var l *link
		if l, err = p.link(addr); err != nil {
			return nil, err
		}
		var s *session
		if s, err = l.connect(ctx); err != nil {
			return nil, err
		}
		var answer []byte
		if answer, err = s.call(ctx, request); !errors.Is(err, errRetired) {
			p.count(err)
			return answer, err
		}
	}
	return nil, unreachable(addr, err)
}

// Meet is Call over a connection of its own and of kind Join, so that it reaches a node that belongs to no cluster yet.
func (p *Peer) Meet(ctx context.Context, addr string, request []byte) ([]byte, error) {
	c, err := p.dialCounted(ctx, addr, Join)
	if err != nil {
		return nil, err
	}
	s := newSession(addr, c, Join)
	if !p.spawn(s.write) || !p.spawn(s.read) {
		s.end(net.ErrClosed)
		return nil, unreachable(addr, net.ErrClosed)
	}
	defer s.retire()
	answer, err := s.call(ctx, request)
	p.count(err)
	return answer, err
}

func (p *Peer) count(err error) {
	switch {
	case errors.Is(err, ErrUnreachable):
		return
	case errors.Is(err, ErrBroken):
		p.stats.broken.Add(1)
	}
	p.stats.sent.Add(1)
}
