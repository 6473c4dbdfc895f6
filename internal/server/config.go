package server

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
)

// DefaultListen is where a server listens when nothing else is said: this machine only.
const DefaultListen = "127.0.0.1:7333"

// Config says how the door behaves.
type Config struct {
	// Backend is what decides; required.
	Backend Backend
	// APIKey, if set, must come with every request but those for health.
	APIKey string
	// ServerName is what the classic interface calls the server; empty: DoubleDutch/Version.
	ServerName string
	Version    string
	// AllowedHosts are names, beside those of the loopback interface, under which a server without an API key answers on it.
	AllowedHosts []string
	// Listen is host:port; empty: DefaultListen. Port 0 takes a free one.
	Listen string
	// TLSCert and TLSKey are PEM files, both or none. They are read again when they change.
	TLSCert, TLSKey string
	// Insecure allows to listen on the network without TLS and an API key.
	Insecure bool
	// MaxConnections and MaxConnectionsPerIP bound the open connections; 0: the defaults, negative: no bound. Loopback
	// clients are exempt from the second.
	MaxConnections, MaxConnectionsPerIP int
	// Logger must not be nil.
	Logger *slog.Logger
	// Metrics, if nil, is made by New.
	Metrics *Metrics
}

// New returns a server for c that does not listen yet, or one clear sentence why there can be none.
func New(c Config) (*Server, error) {
	if c.Backend == nil || c.Logger == nil {
		return nil, errors.New("server: a backend and a logger are needed")
	}
	c = withDefaults(c)
	loopback, err := listensOnLoopback(c.Listen)
	if err != nil {
		return nil, err
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		return nil, errors.New("--tls-cert and --tls-key go together; one of them is missing")
	}
	exposed := !loopback && (c.TLSCert == "" || c.APIKey == "")
	if exposed && !c.Insecure {
		return nil, fmt.Errorf("refusing to listen on %s for the whole network without TLS and an API key: set --tls-cert, --tls-key and --api-key, or say --insecure if the network itself is trusted", c.Listen)
	}
	s := &Server{
		backend: c.Backend, config: c, log: c.Logger, name: c.ServerName, key: newAPIKey(c.APIKey),
		loopback: loopback, exposed: exposed, checkHost: loopback && c.APIKey == "", allowedHosts: lowerAll(c.AllowedHosts),
		ended: make(chan struct{}),
	}
	if c.TLSCert != "" {
		if s.cert, err = newCertificate(c.TLSCert, c.TLSKey, c.Logger); err != nil {
			return nil, err
		}
	}
	s.useMetrics(c.Metrics)
	s.settings.Store(&settingsCopy{settings: &command.Settings{}}) // allows nothing: the first request fetches the true ones
	s.http = s.newHTTPServer()
	return s, nil
}

func withDefaults(c Config) Config {
	if c.Listen == "" {
		c.Listen = DefaultListen
	}
	if c.ServerName == "" {
		c.ServerName = "DoubleDutch/" + c.Version
	}
	if c.Metrics == nil {
		c.Metrics = NewMetrics()
	}
	if c.MaxConnections == 0 {
		c.MaxConnections = defaultMaxConnections
	}
	if c.MaxConnectionsPerIP == 0 {
		c.MaxConnectionsPerIP = defaultMaxConnectionsPerIP
	}
	return c
}

// listensOnLoopback tells whether only this machine can reach the address. A name other than localhost is not believed.
func listensOnLoopback(listen string) (bool, error) {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return false, fmt.Errorf("--listen wants host:port, such as %s: %w", DefaultListen, err)
	}
	return isLoopbackName(strings.ToLower(host)), nil
}

func lowerAll(hosts []string) []string {
	out := make([]string, len(hosts))
	for i, h := range hosts {
		out[i] = strings.TrimSuffix(strings.ToLower(h), ".")
	}
	return out
}

// How often an operator is reminded that the door stands open.
const remindEvery = time.Hour

// remind warns now and each hour until the server ends.
func (s *Server) remind() {
	const text = "listening on the network without TLS and an API key (--insecure): everybody who reaches this address can take and release locks"
	s.log.Warn(text, "address", s.config.Listen)
	tick := time.NewTicker(remindEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.log.Warn(text, "address", s.config.Listen)
		case <-s.ended:
			return
		}
	}
}
