package client

import (
	"context"
	"errors"
	"net"
	"net/http"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

var errRefused = &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}

// bed is a fake server, the network to it, and how to make clients.
type bed struct {
	t      *testing.T
	server *fakeServer
	net    *fakeNetwork
}

// inBubble runs a test in a bubble, which fails it if a goroutine is left in the end.
func inBubble(t *testing.T, f func(t *testing.T, b *bed)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer()
		n := &fakeNetwork{server: s, flight: newGroup()}
		t.Cleanup(n.flight.wait)
		f(t, &bed{t: t, server: s, net: n})
	})
}

var threeHosts = []string{"http://a", "http://b", "http://c"}

// client makes a client that is closed in the end. It asks host a first.
func (b *bed) client(options ...Option) *Client {
	b.t.Helper()
	c := b.clientOf(threeHosts, options...)
	return c
}

func (b *bed) clientOf(hosts []string, options ...Option) *Client {
	b.t.Helper()
	awake := func(c *config) error { c.asleep = func() time.Duration { return 0 }; return nil }
	options = append([]Option{WithHTTPClient(&http.Client{Transport: b.net}), awake}, options...)
	c, err := New(hosts, options...)
	if err != nil {
		b.t.Fatal(err)
	}
	c.pool.preferred = 0
	b.t.Cleanup(func() {
		if err := c.Close(); err != nil {
			b.t.Error(err)
		}
	})
	return c
}

func (b *bed) lock(c *Client, name string, options ...LockOption) *Lease {
	b.t.Helper()
	l, err := c.Lock(b.t.Context(), name, options...)
	if err != nil {
		b.t.Fatal(err)
	}
	return l
}

// wantErr checks that err is all of the kinds.
func wantErr(t *testing.T, err error, kinds ...error) {
	t.Helper()
	for _, k := range kinds {
		if !errors.Is(err, k) {
			t.Errorf("the error is %v, which is not %q", err, k)
		}
	}
}

// wantNot checks that err is none of the kinds.
func wantNot(t *testing.T, err error, kinds ...error) {
	t.Helper()
	for _, k := range kinds {
		if errors.Is(err, k) {
			t.Errorf("the error is %v, which should not be %q", err, k)
		}
	}
}

func errorsAs(err error, target any) bool { return errors.As(err, target) }

func isDone(ctx context.Context) bool { return ctx.Err() != nil }

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
