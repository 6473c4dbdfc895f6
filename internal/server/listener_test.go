package server

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// valueOf reads a counter or gauge.
func valueOf(t *testing.T, m prometheus.Metric) float64 {
	t.Helper()
	var out dto.Metric
	if err := m.Write(&out); err != nil {
		t.Fatal(err)
	}
	return out.GetCounter().GetValue() + out.GetGauge().GetValue()
}

func TestTotalBound(t *testing.T) {
	d := openDoor(t, func(c *Config) { c.MaxConnections = 3 })
	var open []net.Conn
	for range 3 {
		c := d.dial()
		// An answer shows that the connection was accepted.
		ask(t, c, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
		open = append(open, c)
	}
	got := d.raw("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(strings.NewReader(got)), nil)
	if err != nil {
		t.Fatalf("%v in %q", err, got)
	}
	if b, err := io.ReadAll(res.Body); err != nil || res.StatusCode != 503 || res.Header.Get("Retry-After") == "" || len(b) == 0 {
		t.Errorf("%d %q %v", res.StatusCode, b, err)
	}
	if n := valueOf(t, d.metrics.refusedTotal); n != 1 {
		t.Errorf("%v refusals counted", n)
	}
	// One leaves, and there is room again.
	_ = open[0].Close()
	deadline := time.Now().Add(5 * time.Second)
	for valueOf(t, d.metrics.connections) != 2 {
		if time.Now().After(deadline) {
			t.Fatal("the connection that was closed still counts")
		}
	}
	ask(t, d.dial(), "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

// fakeListener gives out connections that seem to come from anywhere.
type fakeListener struct {
	net.Listener
	from  []string
	peers []net.Conn
}

func (l *fakeListener) Accept() (net.Conn, error) {
	if len(l.from) == 0 {
		return nil, net.ErrClosed
	}
	client, server := net.Pipe()
	l.peers = append(l.peers, client)
	addr := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(l.from[0]))
	l.from = l.from[1:]
	return &fakeConn{server, addr}, nil
}

type fakeConn struct {
	net.Conn
	from net.Addr
}

func (c *fakeConn) RemoteAddr() net.Addr { return c.from }

func TestBoundPerAddress(t *testing.T) {
	from := func(addrs ...string) (accepted []string, m *Metrics) {
		m = NewMetrics()
		l := newLimitedListener(&fakeListener{from: addrs}, -1, 2, true, m)
		for {
			c, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return accepted, m
			}
			accepted = append(accepted, c.RemoteAddr().String())
		}
	}
	for _, c := range []struct {
		addrs []string
		want  int
	}{
		{[]string{"192.0.2.1:1", "192.0.2.1:2", "192.0.2.1:3", "192.0.2.2:1"}, 3},
		{[]string{"[::ffff:192.0.2.1]:1", "192.0.2.1:2", "192.0.2.1:3"}, 2},
		{[]string{"[2001:db8::1]:1", "[2001:db8::2]:1", "[2001:db8::3]:1", "[2001:db8:0:1::1]:1"}, 3},
		{[]string{"127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", "[::1]:1", "[::1]:2", "[::1]:3"}, 6},
	} {
		got, m := from(c.addrs...)
		if len(got) != c.want || int(valueOf(t, m.refusedPerIP)) != len(c.addrs)-c.want {
			t.Errorf("%v: accepted %v", c.addrs, got)
		}
	}
}

func TestClosingTwiceCountsOnce(t *testing.T) {
	m := NewMetrics()
	l := newLimitedListener(&fakeListener{from: []string{"192.0.2.1:1", "192.0.2.1:2", "192.0.2.1:3"}}, -1, 2, true, m)
	one, _ := l.Accept()
	_ = one.Close()
	_ = one.Close()
	if l.open != 0 || len(l.byIP) != 0 {
		t.Errorf("%d open, %v", l.open, l.byIP)
	}
}

func TestRefusalTexts(t *testing.T) {
	for _, text := range []string{refusedTotal, refusedPerIP} {
		res, err := http.ReadResponse(bufio.NewReader(strings.NewReader(text)), nil)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		if err != nil || int64(len(b)) != res.ContentLength || !strings.HasSuffix(text, string(b)) {
			t.Errorf("%q: %q %v", text, b, err)
		}
	}
}
