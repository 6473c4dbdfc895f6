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

// dial connects to addr, and is done with the handshake when it returns.
func (p *Peer) dial(ctx context.Context, addr string, kind Kind) (*conn, error) {
	self := p.config.Self()
	if err := self.check(); err != nil {
		return nil, fmt.Errorf("this node's own identity: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	raw, err := p.network.Dial(ctx, addr)
	if err != nil {
		return nil, unreachable(addr, err)
	}
	c := p.track(raw, true)
	if c == nil {
		_ = raw.Close()
		return nil, unreachable(addr, net.ErrClosed)
	}
	if err = p.introduce(ctx, c, hello{lowest: lowestVersion, highest: highestVersion, kind: kind, self: self}); err != nil {
		c.abort()
		if !errors.Is(err, ErrRefused) {
			err = unreachable(addr, err)
		}
		return nil, err
	}
	return c, nil
}

// introduce is the dialler's part of the handshake.
func (p *Peer) introduce(ctx context.Context, c *conn, h hello) error {
	defer p.limitTo(ctx, c)()
	if err := p.secureDialled(ctx, c); err != nil {
		return err
	}
	if _, err := c.Write(appendHello(nil, h)); err != nil {
		return err
	}
	v, err := readAnswer(c)
	if err != nil {
		return unread(err)
	}
	if !v.ok {
		return refused("%s", v.sentence)
	}
	if why := p.judge(c, h.self, v.self, h.kind); why != nil {
		_, _ = c.Write(appendConfirm(nil, verdict{sentence: why.Error()})) // it ends either way
		return refused("%s", why)
	}
	if _, err := c.Write(appendConfirm(nil, verdict{ok: true})); err != nil {
		return err
	}
	if !c.greeted(v.self, h.kind) {
		return net.ErrClosed
	}
	return c.SetDeadline(time.Time{})
}

func (p *Peer) secureDialled(ctx context.Context, c *conn) error {
	if p.creds == nil {
		return nil
	}
	t := tls.Client(c.raw, p.creds.diallerConfig())
	c.Conn = t
	err := t.HandshakeContext(ctx)
	var notTLS tls.RecordHeaderError
	var bad *tls.CertificateVerificationError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &notTLS):
		return refused("the other side does not speak TLS; give it --cluster-cert, --cluster-key and --cluster-ca too")
	case isRemoteAlert(err):
		return refused("the other side ends the TLS handshake: %s", err)
	case errors.As(err, &bad), !isNetwork(err):
		return refused("this node does not trust the other side: %s", err)
	}
	return err
}

// unread says why no answer came. With TLS 1.3 this is where a dialler learns that its certificate is not welcome.
func unread(err error) error {
	switch {
	case isRemoteAlert(err):
		return refused("the other side does not accept this node's certificate: %s", err)
	case errors.Is(err, errLooksTLS):
		return refused("the other side speaks TLS; give this node --cluster-cert, --cluster-key and --cluster-ca too")
	case errors.Is(err, errStranger):
		return refused("nobody who speaks our protocol answers there")
	}
	return err
}

// isNetwork tells failures of the connection from judgements about the other side.
func isNetwork(err error) bool {
	var n net.Error
	return errors.As(err, &n) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// limitTo bounds the handshake by ctx. The function that it returns ends the bound.
func (p *Peer) limitTo(ctx context.Context, c *conn) func() bool {
	if d, ok := ctx.Deadline(); ok {
		_ = c.raw.SetDeadline(d)
	}
	return context.AfterFunc(ctx, c.abort)
}

// judge decides about the other side, once it has said who it is.
func (p *Peer) judge(c *conn, self, remote Identity, kind Kind) error {
	if err := remote.check(); err != nil {
		return err
	}
	if err := nameFits(c, remote.Name); err != nil {
		return err
	}
	if err := sameCluster(c.outgoing, self, remote, kind); err != nil {
		return err
	}
	return p.admit(remote, kind)
}

// nameFits holds the name that the other side gives against its certificate.
func nameFits(c *conn, name string) error {
	t, ok := c.Conn.(*tls.Conn)
	if !ok {
		return nil
	}
	leaf := t.ConnectionState().PeerCertificates[0]
	if !allowsName(roleNames(leaf), name) {
		return fmt.Errorf("the certificate of %q is not for a node named %s: %s", leaf.Subject.CommonName, name, roleHelp)
	}
	return nil
}

func sameCluster(outgoing bool, self, remote Identity, kind Kind) error {
	switch {
	case kind == Join && (outgoing || remote.ClusterID == "" || self.ClusterID == ""):
		return nil
	case kind != Raft && kind != Call && kind != Join:
		return fmt.Errorf("this node does not know connections of %s", kind)
	case self.ClusterID == "":
		return fmt.Errorf("node %s does not belong to a cluster yet", self.Name)
	case remote.ClusterID == "":
		return fmt.Errorf("node %s does not belong to a cluster yet", remote.Name)
	case self.ClusterID != remote.ClusterID:
		return fmt.Errorf("node %s belongs to another cluster than node %s; a node moves to another cluster only with "+
			"an empty data directory and --join", remote.Name, self.Name)
	}
	return nil
}
