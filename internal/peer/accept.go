package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// accept takes connections until the listener is closed.
func (p *Peer) accept() {
	for {
		raw, err := p.listener.Accept()
		if err != nil {
			if p.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			p.log.Error("accepting a connection of the cluster failed", "error", err)
			if !p.pause(minBackoff) { // out of file descriptors, say
				return
			}
			continue
		}
		c := p.track(raw, false)
		if c == nil {
			_ = raw.Close()
		} else if !p.spawn(func() { p.welcome(c) }) {
			c.abort()
		}
	}
}

// pause waits for d, or returns false when the Peer is closed.
func (p *Peer) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-p.ctx.Done():
		return false
	}
}

// welcome does the acceptor's part of the handshake, then hands the connection on.
func (p *Peer) welcome(c *conn) {
	h, err := p.greet(c)
	if err != nil {
		p.dismiss(c, h, err)
		return
	}
	p.stats.accepted.Add(1)
	if h.kind == Raft {
		p.raft.offer(c)
		return
	}
	p.serve(c)
}

// greet returns a refusal when it was the other side's words that did not please, either way.
func (p *Peer) greet(c *conn) (hello, error) {
	ctx, cancel := p.within(handshakeTimeout)
	defer cancel()
	defer p.limitTo(ctx, c)()
	if err := p.secureAccepted(ctx, c); err != nil {
		return hello{}, err
	}
	h, err := readHello(c)
	if err != nil {
		return h, err
	}
	self := p.config.Self()
	if err := p.judgeHello(c, self, h); err != nil {
		p.farewell(c, version(h), err)
		return h, refused("%s", err)
	}
	if _, err := c.Write(appendAnswer(nil, verdict{ok: true, version: version(h), self: self})); err != nil {
		return h, err
	}
	v, err := readConfirm(c)
	if err != nil {
		return h, err
	}
	if !v.ok {
		return h, refused("the other side says: %s", v.sentence)
	}
	if !c.greeted(h.self, h.kind) {
		return h, refused("too many connections")
	}
	return h, c.SetDeadline(time.Time{})
}

func (p *Peer) judgeHello(c *conn, self Identity, h hello) error {
	if version(h) == 0 {
		return fmt.Errorf("this node speaks the versions %d to %d of the peer protocol and the other one %d to %d; "+
			"upgrade the older one", lowestVersion, highestVersion, h.lowest, h.highest)
	}
	return p.judge(c, self, h.self, h.kind)
}

func (p *Peer) secureAccepted(ctx context.Context, c *conn) error {
	if p.creds == nil {
		return nil
	}
	t := tls.Server(c.raw, p.creds.acceptorConfig())
	c.Conn = t
	err := t.HandshakeContext(ctx)
	var notTLS tls.RecordHeaderError
	if errors.As(err, &notTLS) && string(notTLS.RecordHeader[:]) == magic[:len(notTLS.RecordHeader)] {
		c.Conn = c.raw
		p.farewell(c, 0, errors.New("this node speaks TLS; give the other one --cluster-cert, --cluster-key and --cluster-ca too"))
		return err
	}
	if err != nil && !isNetwork(err) {
		linger(c.raw) // so that the alert arrives
	}
	return err
}

// farewell says why the connection ends.
func (p *Peer) farewell(c *conn, version uint8, why error) {
	_ = c.raw.SetDeadline(time.Now().Add(farewellTimeout))
	if _, err := c.Write(appendAnswer(nil, verdict{version: version, sentence: why.Error()})); err != nil {
		return
	}
	linger(c.raw)
}

// linger waits a little for the other side to read the last words: closing with unread bytes would take them back.
func linger(raw net.Conn) {
	_ = raw.SetDeadline(time.Now().Add(farewellTimeout))
	if half, ok := raw.(interface{ CloseWrite() error }); ok && half.CloseWrite() != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, raw, 2*maxHandshake)
}

// dismiss ends a connection whose handshake failed, and counts it. An outsider can cause any number of these, so they
// are logged seldom.
func (p *Peer) dismiss(c *conn, h hello, err error) {
	defer c.abort()
	if p.ctx.Err() != nil {
		return
	}
	if errors.Is(err, ErrRefused) {
		p.stats.refused.Add(1)
		if more, ok := p.denied.now(); ok {
			p.log.Warn("a peer was refused", "from", c.host, "name", h.self.Name, "kind", h.kind.String(), "reason", err,
				"unlogged", more)
		}
		return
	}
	if errors.Is(err, errLooksTLS) {
		p.farewell(c, 0, errors.New("this node does not speak TLS"))
	}
	p.stats.strangers.Add(1)
	if more, ok := p.strangers.now(); ok {
		p.log.Warn("somebody who is no peer came to the cluster address", "from", c.host, "reason", err, "unlogged", more)
	}
}
