package plainhttp

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Config says how a Listener treats its connections.
type Config struct {
	// Serve answers r, or returns false before it has touched w or the body of r: then net/http gets the request. It may be
	// called from many goroutines at a time, once at a time for a connection. A panic of it ends the connection.
	Serve func(w http.ResponseWriter, r *http.Request) bool
	// Context returns the context for the requests of a connection that is to be served here; nil: none is, and net/http gets
	// the connection as it is.
	Context func(net.Conn) context.Context
	// FirstTimeout bounds how long a connection may be silent before its first request, IdleTimeout how long it may after one, and
	// WriteTimeout how long an answer takes to be written. Each may be up to a second longer.
	FirstTimeout, IdleTimeout, WriteTimeout time.Duration
}

// Listener answers the plain requests that come over the connections of another listener. Its Accept returns the connections
// that net/http is to serve. Its methods may be called from any goroutine.
type Listener struct {
	config Config
	inner  net.Listener
	handed chan net.Conn
	failed chan error
	closed chan struct{} // when closing begins

	closing atomic.Bool
	once    sync.Once
	stamp   atomic.Pointer[stamp]

	mu    sync.Mutex // guards what follows
	conns map[*conn]struct{}
	empty chan struct{} // closed when conns is empty, if somebody waits for that
}

// Listen begins to accept from inner, which it closes in the end.
func Listen(inner net.Listener, c Config) *Listener {
	l := &Listener{
		config: c, inner: inner, handed: make(chan net.Conn), failed: make(chan error), closed: make(chan struct{}),
		conns: make(map[*conn]struct{}),
	}
	go l.accept()
	return l
}

// accept has all connections served.
func (l *Listener) accept() {
	for {
		nc, err := l.inner.Accept()
		if err != nil {
			// Whoever calls Accept knows how long to wait before the next try.
			select {
			case l.failed <- err:
				continue
			case <-l.closed:
				return
			}
		}
		ctx := l.config.Context(nc)
		if ctx == nil {
			go l.hand(nc)
			continue
		}
		c := newConn(l, nc, ctx)
		if l.enter(c) {
			go c.serve()
		} else {
			_ = nc.Close()
		}
	}
}

// Accept returns the next connection whose requests are not plain, or an error of the listener below.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case nc := <-l.handed:
		return nc, nil
	case err := <-l.failed:
		return nil, err
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Addr returns the address of the listener below.
func (l *Listener) Addr() net.Addr { return l.inner.Addr() }

// Close stops accepting. Connections that are silent are closed, the others after their answer, which says so.
func (l *Listener) Close() error {
	var err error
	l.once.Do(func() {
		l.closing.Store(true)
		close(l.closed)
		err = l.inner.Close()
		l.mu.Lock()
		defer l.mu.Unlock()
		for c := range l.conns {
			c.leaveIdle()
		}
	})
	return err
}

// Shutdown closes the listener and returns when all is answered that has been asked here. When ctx ends first, it closes the
// connections that are left and returns ctx's error.
func (l *Listener) Shutdown(ctx context.Context) error {
	err := l.Close()
	select {
	case <-l.isEmpty():
		return err
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		_ = c.nc.Close()
	}
	return errors.Join(err, ctx.Err())
}

// hand passes a connection on to net/http.
func (l *Listener) hand(nc net.Conn) {
	select {
	case l.handed <- nc:
	case <-l.closed:
		_ = nc.Close()
	}
}

// enter registers c, unless the listener closes.
func (l *Listener) enter(c *conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closing.Load() {
		return false
	}
	l.conns[c] = struct{}{}
	return true
}

func (l *Listener) leave(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
	if len(l.conns) == 0 && l.empty != nil {
		close(l.empty)
		l.empty = nil
	}
}

// isEmpty returns what is closed as soon as no connection is left.
func (l *Listener) isEmpty() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.conns) == 0 {
		none := make(chan struct{})
		close(none)
		return none
	}
	if l.empty == nil {
		l.empty = make(chan struct{})
	}
	return l.empty
}

// stamp is a second as it is written in the header Date.
type stamp struct {
	second int64
	text   string
}

// date returns now as it stands in the header Date.
func (l *Listener) date(now time.Time) string {
	s := l.stamp.Load()
	if s == nil || s.second != now.Unix() {
		s = &stamp{now.Unix(), now.UTC().Format(http.TimeFormat)}
		l.stamp.Store(s)
	}
	return s.text
}
