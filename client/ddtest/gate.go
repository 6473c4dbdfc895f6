package ddtest

import (
	"net"
	"sync"
	"time"
)

// gate stands between clients and servers; while it is shut nothing passes, in neither direction.
type gate struct {
	mu     sync.Mutex    // guards opened
	opened chan struct{} // nil: open; otherwise it will be closed when the gate opens
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.opened == nil {
		g.opened = make(chan struct{})
	}
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.opened != nil {
		close(g.opened)
		g.opened = nil
	}
}

// pass returns when the gate is open, or an error when closed is closed.
func (g *gate) pass(closed <-chan struct{}) error {
	for {
		g.mu.Lock()
		opened := g.opened
		g.mu.Unlock()
		if opened == nil {
			return nil
		}
		select {
		case <-opened:
		case <-closed:
			return net.ErrClosed
		}
	}
}

// isOpen tells whether everything passes.
func (g *gate) isOpen() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.opened == nil
}

// gatedConn is the server's end of a connection. What the server writes while the gate is shut is taken from it, as a kernel
// does, and sent when the gate opens.
type gatedConn struct {
	net.Conn
	s      *Server
	once   sync.Once
	closed chan struct{}

	mu      sync.Mutex // guards what follows
	held    []byte     // written, and not sent yet
	sending bool       // somebody sends what is held, and then closes the connection if that was asked for
}

// farewell is how long a client that does not read can keep a closed connection.
const farewell = 10 * time.Second

func (c *gatedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if gone := c.s.gate.pass(c.closed); gone != nil {
		return 0, gone
	}
	return n, err // as they are: net/http looks at them
}

func (c *gatedConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	if !c.sending && c.s.gate.isOpen() {
		c.mu.Unlock()
		return c.Conn.Write(b)
	}
	defer c.mu.Unlock()
	c.held = append(c.held, b...)
	if !c.sending {
		c.sending = true
		c.s.working.Go(c.send)
	}
	return len(b), nil
}

// send waits for the gate and sends what is held.
func (c *gatedConn) send() {
	_ = c.s.gate.pass(nil)
	for {
		c.mu.Lock()
		b := c.held
		c.held = nil
		if len(b) == 0 {
			c.sending = false
			c.mu.Unlock()
			break
		}
		c.mu.Unlock()
		_ = c.Conn.SetWriteDeadline(time.Now().Add(farewell)) // whatever the server had set may have passed
		if _, err := c.Conn.Write(b); err != nil {
			_ = c.Conn.Close()
		}
	}
	select {
	case <-c.closed:
		_ = c.Conn.Close()
	default:
		_ = c.Conn.SetWriteDeadline(time.Time{})
	}
}

func (c *gatedConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sending {
		return nil
	}
	return c.Conn.Close()
}
