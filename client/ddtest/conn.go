package ddtest

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
)

// memoryDomain ends the names of nodes that are reached in memory. No resolver knows it, so whoever does not use HTTPClient
// learns it at once.
const memoryDomain = ".ddtest.invalid"

func listenLoopback() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") }

func discardLog() *log.Logger { return log.New(io.Discard, "", 0) }

// doorway is where clients come to a machine. It stays when the process behind it ends, so that the address stays; then whoever
// comes is turned away.
type doorway struct {
	s   *Server
	url string
	ln  net.Listener // nil: in memory

	mu      sync.Mutex // guards serving
	serving *listener  // nil: no process serves
}

func newDoorway(s *Server, ln net.Listener, url string) *doorway {
	d := &doorway{s: s, url: url, ln: ln}
	if ln != nil {
		s.working.Go(d.accept)
	}
	return d
}

// accept passes connections on until the doorway is closed.
func (d *doorway) accept() {
	for {
		conn, err := d.ln.Accept()
		if err != nil {
			return
		}
		if err := d.enter(conn); err != nil {
			_ = conn.(*net.TCPConn).SetLinger(0) // a reset, as from a machine on which nothing listens
			_ = conn.Close()
		}
	}
}

// enter brings a connection to the process that serves.
func (d *doorway) enter(conn net.Conn) error {
	d.mu.Lock()
	l := d.serving
	d.mu.Unlock()
	if l == nil {
		return syscall.ECONNREFUSED
	}
	select {
	case l.conns <- &gatedConn{Conn: conn, s: d.s, closed: make(chan struct{})}:
		return nil
	case <-l.closed:
		return syscall.ECONNREFUSED
	}
}

func (d *doorway) open() net.Listener {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.serving = &listener{doorway: d, conns: make(chan net.Conn), closed: make(chan struct{})}
	return d.serving
}

// shut turns everybody away from now on.
func (d *doorway) shut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.serving = nil
}

func (d *doorway) close() {
	if d.ln != nil {
		_ = d.ln.Close()
	}
}

// listener is what one process accepts from.
type listener struct {
	doorway *doorway
	conns   chan net.Conn
	once    sync.Once
	closed  chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *listener) Addr() net.Addr { return doorAddr(l.doorway.url) }

type doorAddr string

func (doorAddr) Network() string  { return "http" }
func (a doorAddr) String() string { return strings.TrimPrefix(string(a), "http://") }

// newHTTPClient returns a client for all doorways.
func (s *Server) newHTTPClient() *http.Client {
	t := &http.Transport{MaxIdleConnsPerHost: 100}
	if s.config.inMemory {
		t.DialContext = s.dialMemory
	}
	return &http.Client{Transport: t}
}

// dialMemory connects to a node by its name.
func (s *Server) dialMemory(_ context.Context, _, addr string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	for _, m := range s.machines {
		if host == m.name+memoryDomain {
			near, far := net.Pipe()
			if err := m.doorway.enter(far); err != nil {
				return nil, &net.OpError{Op: "dial", Net: "memory", Addr: doorAddr(addr), Err: err}
			}
			return near, nil
		}
	}
	return nil, fmt.Errorf("ddtest: there is no server at %s; this client reaches only the endpoints of its own server", addr)
}
