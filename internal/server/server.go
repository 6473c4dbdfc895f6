package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/doubledutch-lock/doubledutch/internal/plainhttp"
)

// Server is the HTTP door. Its methods may be called from any goroutine; Listen, then Serve, once each.
type Server struct {
	backend      Backend
	config       Config
	log          *slog.Logger
	name         string
	key          apiKey
	loopback     bool
	exposed      bool
	checkHost    bool
	allowedHosts []string
	cert         *certificate // nil without TLS
	router       *router
	http         *http.Server
	settings     atomic.Pointer[settingsCopy]
	stopping     atomic.Bool
	streams      atomic.Int64 // of events, open now
	endOnce      sync.Once
	ended        chan struct{} // closed when Shutdown begins

	stats       *Metrics
	unrouted    *routeStats
	undelivered prometheus.Counter

	hashing sync.Mutex // held while the state is hashed, which only one request does at a time

	mu       sync.Mutex // guards what follows
	listener net.Listener
	plain    *plainhttp.Listener // nil: net/http has it all
}

// useMetrics resolves every counter that a request touches.
func (s *Server) useMetrics(m *Metrics) {
	s.stats = m
	table := routeTable()
	for _, rt := range table {
		rt.stats = m.route(rt.name())
	}
	s.unrouted = m.route("none")
	s.undelivered = m.undelivered
	s.router = newRouter(table)
	m.watch(s.backend)
}

func (s *Server) newHTTPServer() *http.Server {
	var p http.Protocols
	p.SetHTTP1(true)
	p.SetHTTP2(true)
	p.SetUnencryptedHTTP2(true)
	h := &http.Server{
		Handler:           s,
		Protocols:         &p,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ConnContext:       withConn,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: maxStreams,
			SendPingTimeout:      pingAfter,
			PingTimeout:          pingTimeout,
		},
		// net/http's own complaints are about what clients sent; they quote no paths and no headers.
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		// "OPTIONS *" is no path of ours.
		DisableGeneralOptionsHandler: true,
	}
	if s.cert != nil {
		h.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: s.cert.get}
	}
	return h
}

// Handler returns the door as a handler, for tests that bring their own server.
func (s *Server) Handler() http.Handler { return s }

// Listen binds the address. After it, Addr says which one it is, and clients can connect; they are answered once Serve runs.
func (s *Server) Listen() error {
	lc := net.ListenConfig{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: pingAfter, Interval: pingTimeout / 2, Count: 2}}
	ln, err := lc.Listen(context.Background(), "tcp", s.config.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	if a, ok := ln.Addr().(*net.TCPAddr); ok && s.loopback && !a.IP.IsLoopback() {
		_ = ln.Close()
		return fmt.Errorf("refusing to listen: %s was expected to be this machine only, but is %s", s.config.Listen, a)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listener = newLimitedListener(ln, s.config.MaxConnections, s.config.MaxConnectionsPerIP, s.cert != nil, s.stats)
	return nil
}

// Addr returns the address that Listen bound, or nil before.
func (s *Server) Addr() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener == nil {
		return nil
	}
	return s.listener.Addr()
}

// Serve answers requests until Shutdown, and then returns nil.
func (s *Server) Serve() error {
	s.mu.Lock()
	ln := s.listener
	s.mu.Unlock()
	if ln == nil {
		return errors.New("serve: Listen comes first")
	}
	if s.exposed {
		go s.remind()
	}
	var err error
	if s.cert != nil {
		err = s.http.ServeTLS(ln, "", "")
	} else {
		err = s.http.Serve(s.plainFirst(ln))
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve: %w", err)
}

// Shutdown stops accepting, ends all waiting with 503 and Retry-After, and lets what is in flight finish. When ctx ends
// first, the connections that are left are cut and ctx's error is returned.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stopping.Store(true)
	s.endOnce.Do(func() { close(s.ended) })
	drained := make(chan error, 1)
	go func() { drained <- errors.Join(s.http.Shutdown(ctx), s.shutdownPlain(ctx)) }()
	s.backend.StopWaiting()
	if err := <-drained; err != nil {
		_ = s.http.Close()
		return fmt.Errorf("shutdown: %w", err)
	}
	return nil
}
