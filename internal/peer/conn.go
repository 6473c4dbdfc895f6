package peer

import (
	"net"
	"sync"
)

// conn is one connection, from before its handshake to its end. The Peer keeps count of it until it is closed.
type conn struct {
	net.Conn // with TLS the *tls.Conn, which is set before anybody else uses the conn
	raw      net.Conn
	p        *Peer
	outgoing bool
	host     string // of the remote end

	// Written under p.mu, when the handshake is over; remote is empty before.
	kind   Kind
	remote Identity

	once sync.Once
}

// track counts a new connection. It returns nil when there are too many or the Peer is closed.
func (p *Peer) track(raw net.Conn, outgoing bool) *conn {
	c := &conn{Conn: raw, raw: raw, p: p, outgoing: outgoing, host: hostOf(raw.RemoteAddr())}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	if !outgoing {
		if p.accepted >= maxConns || p.perHost[c.host] >= maxConnsPerHost ||
			p.greeting >= maxHandshakes || p.greetHost[c.host] >= maxHandshakeHost {
			p.stats.limited.Add(1)
			return nil
		}
		p.accepted++
		p.greeting++
		p.perHost[c.host]++
		p.greetHost[c.host]++
	}
	p.conns[c] = struct{}{}
	return c
}

// greeted notes who is at the other end. It returns false when that one has too many connections.
func (c *conn) greeted(remote Identity, kind Kind) bool {
	p := c.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, open := p.conns[c]; !open {
		return false
	}
	if !c.outgoing {
		if p.perInstance[remote.Instance] >= maxConnsPerInstance {
			p.stats.limited.Add(1)
			return false
		}
		p.perInstance[remote.Instance]++
		p.greeting--
		less(p.greetHost, c.host)
	}
	c.remote, c.kind = remote, kind
	return true
}

// who is at the other end: an empty Identity while nobody knows.
func (c *conn) who() (Identity, Kind) {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	return c.remote, c.kind
}

func (c *conn) forget() {
	p := c.p
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
	if c.outgoing {
		return
	}
	p.accepted--
	less(p.perHost, c.host)
	if c.remote.Name == "" {
		p.greeting--
		less(p.greetHost, c.host)
	} else {
		less(p.perInstance, c.remote.Instance)
	}
}

// less counts down, and forgets what is no more.
func less(m map[string]int, key string) {
	if m[key]--; m[key] <= 0 {
		delete(m, key)
	}
}

// Close ends the connection in good order: the other side reads an end and not an error.
func (c *conn) Close() error {
	c.once.Do(c.forget)
	return c.Conn.Close()
}

// abort ends the connection at once.
func (c *conn) abort() {
	c.once.Do(c.forget)
	_ = c.raw.Close()
}
