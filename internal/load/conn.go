package load

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"
)

// readBuffer holds the header and body of an ordinary answer, in bytes; a greater one takes more reads.
const readBuffer = 2048

// Endpoint is one address of the server.
type Endpoint struct {
	URL  string // as it was given
	addr string // host:port
	host string // for the header
	path string // before every path; empty, or begins with a slash and does not end with one
	tls  *tls.Config
}

// NewEndpoint reads a base URL such as http://127.0.0.1:7333. trust is for https; nil trusts the system's certificates.
func NewEndpoint(base string, trust *tls.Config) (*Endpoint, error) {
	u, err := url.Parse(base)
	if err != nil {
		return nil, err
	}
	e := &Endpoint{URL: base, addr: u.Host, host: u.Host, path: strings.TrimRight(u.EscapedPath(), "/")}
	port := "80"
	switch u.Scheme {
	case "http":
	case "https":
		port = "443"
		e.tls = &tls.Config{MinVersion: tls.VersionTLS12}
		if trust != nil {
			e.tls = trust.Clone()
		}
		e.tls.ServerName, e.tls.NextProtos = u.Hostname(), []string{"http/1.1"}
	default:
		return nil, fmt.Errorf("%q is neither http nor https", base)
	}
	if u.Port() == "" {
		e.addr = net.JoinHostPort(u.Hostname(), port)
	}
	return e, nil
}

// Conn is one keep-alive connection. It belongs to one goroutine, but for abort.
type Conn struct {
	conn    net.Conn
	in      *bufio.Reader
	body    []byte // of the last answer; used again
	timeout time.Duration
	limit   time.Time // the deadline that is set; zero: none
	forget  func() bool
}

// Dial connects. timeout bounds the connecting and then every answer that Receive waits for, the latter to within a half of it.
// The end of ctx makes everything on the connection fail.
func (e *Endpoint) Dial(ctx context.Context, timeout time.Duration) (*Conn, error) {
	d := net.Dialer{Timeout: timeout}
	conn, err := d.DialContext(ctx, "tcp", e.addr)
	if err != nil {
		return nil, err
	}
	if e.tls != nil {
		secure := tls.Client(conn, e.tls)
		early, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		if err := secure.HandshakeContext(early); err != nil {
			_ = conn.Close()
			return nil, err
		}
		conn = secure
	}
	c := &Conn{conn: conn, in: bufio.NewReaderSize(conn, readBuffer), timeout: timeout}
	c.forget = context.AfterFunc(ctx, c.abort)
	return c, nil
}

// abort makes whatever is under way on the connection, and comes later, fail. It may be called from any goroutine.
func (c *Conn) abort() { _ = c.conn.Close() }

// Close closes the connection.
func (c *Conn) Close() {
	c.forget()
	_ = c.conn.Close()
}

// Send writes a request.
func (c *Conn) Send(request []byte) error {
	_, err := c.conn.Write(request)
	return err
}

// Receive reads the answer to the oldest request that was sent. After an error the connection is of no use. The answer may
// take until the time-out of the connection, or, if forever is set, as long as it likes.
func (c *Conn) Receive(forever bool) (Answer, error) {
	if err := c.patience(forever); err != nil {
		return Answer{}, err
	}
	return c.read()
}

// Do is Send and Receive.
func (c *Conn) Do(request []byte, forever bool) (Answer, error) {
	if err := c.Send(request); err != nil {
		return Answer{}, err
	}
	return c.Receive(forever)
}

// patience sets the deadline, but not more often than it must: that is a good part of what a request costs.
func (c *Conn) patience(forever bool) error {
	if forever {
		if c.limit.IsZero() {
			return nil
		}
		c.limit = time.Time{}
		return c.conn.SetReadDeadline(c.limit)
	}
	if now := time.Now(); c.limit.Sub(now) < c.timeout {
		c.limit = now.Add(c.timeout + c.timeout/2)
		return c.conn.SetReadDeadline(c.limit)
	}
	return nil
}

// failure is the code under which a report counts err.
func failure(err error) string {
	var op *net.OpError
	var n net.Error
	switch {
	case errors.Is(err, errMalformed):
		return "malformed_answer"
	case errors.As(err, &op) && op.Op == "dial":
		return "cannot_connect"
	case errors.As(err, &n) && n.Timeout():
		return "no_answer_in_time"
	default:
		return "connection_lost"
	}
}
