package peer

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
)

func TestOnlyLoopbackWithoutTLS(t *testing.T) {
	files := certs(t, "n1")["n1"]
	for _, c := range []struct {
		addr            string
		tls, insecure   bool
		advertise, want string
	}{
		{addr: "127.0.0.1:0"},
		{addr: "127.8.9.10:0"},
		{addr: "localhost:0"},
		{addr: "0.0.0.0:0", want: "--cluster-cert"},
		{addr: ":0", want: "--insecure"},
		{addr: "[::]:0", want: "--cluster-cert"},
		{addr: "192.0.2.1:0", want: "--insecure"},
		{addr: "192.0.2.1", want: "missing port"},
		{addr: "0.0.0.0:0", insecure: true, advertise: "n1.example:7334"},
		{addr: "0.0.0.0:0", tls: true, advertise: "n1.example:7334"},
		{addr: "0.0.0.0:0", tls: true, want: "advertise"},
		{addr: "127.0.0.1:0", advertise: "n1.example", want: "missing port"},
		{addr: "127.0.0.1:0", advertise: "n1.example:0", want: "advertise"},
	} {
		conf := Config{
			Listen: c.addr, Advertise: c.advertise, Insecure: c.insecure,
			Self: func() Identity { return ident("n1") }, Handle: echo,
		}
		if c.tls {
			conf.TLS = &files
		}
		p, err := Listen(conf)
		if err == nil {
			if c.advertise != "" && p.RaftLayer().Addr().String() != c.advertise {
				t.Errorf("%+v: advertises %s", c, p.RaftLayer().Addr())
			}
			_ = p.Close()
		}
		if (err == nil) != (c.want == "") || (err != nil && !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestAddressesThatAreNotDialled(t *testing.T) {
	for _, c := range []struct {
		addr     string
		insecure bool
		want     string
	}{
		{"192.0.2.1:7334", false, "--insecure"},
		{"169.254.169.254:80", true, "cannot have this address"},
		{"[fe80::1%lo]:80", true, "cannot have this address"},
		{"0.0.0.0:80", true, "cannot have this address"},
		{"224.0.0.1:80", true, "cannot have this address"},
		{"http://127.0.0.1:80/", true, ""},
		{"127.0.0.1", true, "missing port"},
	} {
		p := start(t, "n1", func(conf *Config) { conf.Insecure = c.insecure })
		_, err := p.Call(patience(t), c.addr, nil)
		if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.addr, err)
		}
	}
}

func TestAddressesCalledAreLimited(t *testing.T) {
	p := start(t, "n1", func(c *Config) { c.Network = &memory{} })
	p.mu.Lock()
	for i := range maxLinks {
		addr := string(rune('a' + i))
		p.links[addr] = &link{p: p, addr: addr, attempt: &attempt{}}
	}
	p.mu.Unlock()
	_, err := p.Call(patience(t), "one more", nil)
	if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "other addresses") {
		t.Errorf("all in use: %v", err)
	}
	p.mu.Lock()
	for _, l := range p.links {
		l.attempt = nil
	}
	p.mu.Unlock()
	_, err = p.Call(patience(t), "one more", nil)
	if !errors.Is(err, errNobody) {
		t.Errorf("all idle: %v", err)
	}
}

// memory is a Network of pipes whose cables can be cut without either end noticing.
type memory struct{ hosts map[string]*memoryHost }

type memoryHost struct {
	addr   string
	conns  chan net.Conn
	closed chan struct{}
}

var errNobody = errors.New("nobody listens there")

func (m *memory) Listen(addr string) (net.Listener, error) {
	h := &memoryHost{addr: addr, conns: make(chan net.Conn), closed: make(chan struct{})}
	if m.hosts == nil {
		m.hosts = map[string]*memoryHost{}
	}
	m.hosts[addr] = h
	return h, nil
}

func (m *memory) Dial(ctx context.Context, addr string) (net.Conn, error) {
	h := m.hosts[addr]
	if h == nil {
		return nil, errNobody
	}
	mine, yours := net.Pipe()
	select {
	case h.conns <- yours:
		return mine, nil
	case <-h.closed:
		return nil, errNobody
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (h *memoryHost) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

func (h *memoryHost) Close() error   { close(h.closed); return nil }
func (h *memoryHost) Addr() net.Addr { return address(h.addr) }
