package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Client talks to the servers of one cluster. It is safe for use by many goroutines, and meant to be made once and kept.
type Client struct {
	config config
	http   *http.Client
	clock  *clock
	pool   *pool
	log    *slog.Logger

	// ctx ends with Close; all that runs in the background runs under it.
	ctx context.Context //nolint:containedctx // the client's own life
	end context.CancelCauseFunc
	// ending ends when Close begins: then no operation goes on, but holds are still given back.
	ending context.Context //nolint:containedctx // the life of operations
	stop   context.CancelCauseFunc

	// operations counts those of the callers, returning what gives holds back, running attempts and renewals.
	operations, returning, running *group

	traced bool   // the transport is ours, and tells when a request can have left
	idle   func() // closes idle connections, if they are ours

	mu      sync.Mutex // guards what follows
	closed  bool
	leases  map[*keeper]struct{} // that are believed in
	watched chan struct{}        // closed to end the watch for suspends; nil without leases
}

// New makes a client for the cluster with the given endpoints (such as "http://10.0.0.1:7333"; more than one of the same
// cluster, so that one that fails can be replaced by the next). It sends nothing yet.
func New(endpoints []string, options ...Option) (*Client, error) {
	cfg := config{
		try: DefaultTryTimeout, patience: DefaultPatience, margin: -1, owner: defaultOwner(),
		logger: slog.New(slog.DiscardHandler), asleep: asleep,
	}
	for _, o := range options {
		if err := o(&cfg); err != nil {
			return nil, err
		}
	}
	if cfg.http != nil && cfg.tls != nil {
		return nil, errors.New("doubledutch: WithTLSConfig does not go with WithHTTPClient")
	}
	c := &Client{
		config: cfg, clock: newClock(cfg.asleep), log: cfg.logger, leases: map[*keeper]struct{}{},
		operations: newGroup(), returning: newGroup(), running: newGroup(),
	}
	var err error
	if c.pool, err = newPool(endpoints, c.clock); err != nil {
		return nil, err
	}
	c.http, c.idle = httpClient(&cfg)
	c.traced = cfg.http == nil
	c.ctx, c.end = context.WithCancelCause(context.Background())
	c.ending, c.stop = context.WithCancelCause(c.ctx)
	return c, nil
}

// httpClient returns the client to use, and what closes its idle connections.
func httpClient(cfg *config) (*http.Client, func()) {
	h, idle := &http.Client{}, func() {}
	if cfg.http != nil {
		copied := *cfg.http
		h = &copied
	} else {
		t := transport(cfg.tls)
		h.Transport, idle = t, t.CloseIdleConnections
	}
	h.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return h, idle
}

func transport(cfg *tls.Config) *http.Transport {
	t := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: DefaultPatience, KeepAlive: DefaultTryTimeout}).DialContext,
		TLSClientConfig:       cfg,
		TLSHandshakeTimeout:   10 * time.Second,
		ForceAttemptHTTP2:     true,
		MaxIdleConnsPerHost:   64,
		IdleConnTimeout:       45 * time.Second, // the server closes after 60
		ExpectContinueTimeout: time.Second,
		// A cancelled request does not close the connection of HTTP/2; a dead one must be noticed otherwise.
		HTTP2: &http.HTTP2Config{SendPingTimeout: DefaultTryTimeout, PingTimeout: DefaultTryTimeout},
	}
	return t
}

func defaultOwner() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%.100s@%.100s#%d", filepath.Base(os.Args[0]), host, os.Getpid())
}

// Close ends all renewals. The contexts of all leases and sessions that are still held end at once, with the cause [ErrClosed]; on
// the server they are held until their ttl has passed, since Close cannot know whether what they protect has come to an end: unlock
// what is to be free sooner, before. Close returns when no goroutine of the client is left. That takes as long as holds of unlocked
// leases and abandoned acquires are still being given back, at most five seconds.
func (c *Client) Close() error {
	c.mu.Lock()
	first := !c.closed
	c.closed = true
	var held []*keeper
	for k := range c.leases {
		held = append(held, k)
	}
	c.mu.Unlock()
	if first {
		for _, k := range held {
			k.finish(ErrClosed)
		}
		c.stop(ErrClosed)
	}
	c.operations.wait()
	c.returning.wait()
	c.end(ErrClosed)
	c.running.wait()
	c.idle()
	return nil
}

// begin starts an operation of a caller: its context ends with ctx, and with the client. end must be called when it is over.
func (c *Client) begin(ctx context.Context) (_ context.Context, end func(), _ error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, nil, ErrClosed
	}
	c.operations.add()
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(c.ending, func() { cancel(ErrClosed) })
	return ctx, func() {
		stop()
		cancel(nil)
		c.operations.done()
	}, nil
}

// hold begins to count on k, unless the client is closed.
func (c *Client) hold(k *keeper) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.leases[k] = struct{}{}
	if c.watched == nil {
		c.watched = make(chan struct{})
		done := c.watched
		c.running.goes(func() { c.watch(done) })
	}
	return true
}

// letGo ends hold.
func (c *Client) letGo(k *keeper) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.leases, k)
	if len(c.leases) == 0 && c.watched != nil {
		close(c.watched)
		c.watched = nil
	}
}

// How often a client that holds something looks whether the machine has been suspended.
const watchPause = time.Second

// watch makes leases look at the clock again after the machine was suspended: timers stand still meanwhile, leases do not.
func (c *Client) watch(done <-chan struct{}) {
	tick := time.NewTicker(watchPause)
	defer tick.Stop()
	for before := c.config.asleep(); ; {
		select {
		case <-done:
			return
		case <-tick.C:
		}
		now := c.config.asleep()
		if now > before+watchPause/100 {
			c.wake()
		}
		before = now
	}
}

func (c *Client) wake() {
	c.mu.Lock()
	var held []*keeper
	for k := range c.leases {
		held = append(held, k)
	}
	c.mu.Unlock()
	for _, k := range held {
		k.wake()
	}
}

// giveBackFor is how long what may be held by nobody is tried to be given back, in the background.
const giveBackFor = 5 * time.Second

// later does something in the background, for at most so long, that Close waits for. It is false if the client is closed.
func (c *Client) later(f func(ctx context.Context)) bool {
	if c.ctx.Err() != nil {
		return false
	}
	c.returning.goes(func() {
		ctx, cancel := context.WithTimeoutCause(c.ctx, giveBackFor, errNoAnswer)
		defer cancel()
		f(ctx)
	})
	return true
}
