package server

import (
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// limitedListener bounds how many connections are open, in total and from one address. What is beyond is told so, if
// it speaks plain HTTP, and closed.
type limitedListener struct {
	net.Listener
	total, perIP int // negative: no bound
	encrypted    bool
	stats        *Metrics
	farewells    chan struct{} // as many as may say goodbye at once

	mu   sync.Mutex // guards what follows
	open int
	byIP map[netip.Prefix]int
}

const (
	maxFarewells    = 32
	farewellTimeout = 500 * time.Millisecond
)

const (
	refusedTotal = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 37\r\n" +
		"Retry-After: 5\r\nConnection: close\r\n\r\nThe server has too many connections.\n"
	refusedPerIP = "HTTP/1.1 429 Too Many Requests\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 43\r\n" +
		"Retry-After: 5\r\nConnection: close\r\n\r\nYour address has too many open connections\n"
)

func newLimitedListener(ln net.Listener, total, perIP int, encrypted bool, stats *Metrics) *limitedListener {
	return &limitedListener{
		Listener: ln, total: total, perIP: perIP, encrypted: encrypted, stats: stats,
		farewells: make(chan struct{}, maxFarewells), byIP: make(map[netip.Prefix]int),
	}
}

// Accept returns the next connection that is within the bounds.
func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err // as it is: net/http looks at its type
		}
		from := origin(conn.RemoteAddr())
		if text := l.admit(from); text != "" {
			l.refuse(conn, text)
			continue
		}
		l.stats.connections.Inc()
		return &limitedConn{Conn: conn, listener: l, from: from, raw: rawConn(conn)}, nil
	}
}

// admit counts a connection, or returns what to say to it.
func (l *limitedListener) admit(from netip.Prefix) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.total >= 0 && l.open >= l.total {
		l.stats.refusedTotal.Inc()
		return refusedTotal
	}
	if from.IsValid() {
		if l.perIP >= 0 && l.byIP[from] >= l.perIP {
			l.stats.refusedPerIP.Inc()
			return refusedPerIP
		}
		l.byIP[from]++
	}
	l.open++
	return ""
}

func (l *limitedListener) leave(from netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	if !from.IsValid() {
		return
	}
	if l.byIP[from]--; l.byIP[from] <= 0 {
		delete(l.byIP, from)
	}
}

// origin is what counts as one address: an IPv4 address, or the /64 that one IPv6 customer has. It is not valid for
// loopback and for what is no IP address: those are not counted.
func origin(a net.Addr) netip.Prefix {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	ip := tcp.AddrPort().Addr().Unmap().WithZone("")
	if ip.IsLoopback() {
		return netip.Prefix{}
	}
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	p, _ := ip.Prefix(bits)
	return p
}

// refuse says text and closes. To close at once would throw the text away together with the unread request, so a few
// connections at a time are given a moment; the others are just closed.
func (l *limitedListener) refuse(conn net.Conn, text string) {
	select {
	case l.farewells <- struct{}{}:
	default:
		_ = conn.Close()
		return
	}
	if l.encrypted {
		<-l.farewells
		_ = conn.Close()
		return
	}
	go func() {
		defer func() { <-l.farewells }()
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(farewellTimeout))
		if _, err := io.WriteString(conn, text); err != nil {
			return
		}
		if half, ok := conn.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		}
		_, _ = io.Copy(io.Discard, conn)
	}()
}

// limitedConn leaves the count when it is closed, once.
type limitedConn struct {
	net.Conn
	listener *limitedListener
	from     netip.Prefix
	once     sync.Once

	raw syscall.RawConn // nil: there is no descriptor
}

func rawConn(conn net.Conn) syscall.RawConn {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

// Close closes the connection.
func (c *limitedConn) Close() error {
	c.once.Do(func() {
		c.listener.leave(c.from)
		c.listener.stats.connections.Dec()
	})
	return c.Conn.Close()
}
