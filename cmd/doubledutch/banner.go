package main

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/locktable"
	"github.com/doubledutch-lock/doubledutch/internal/node"
)

// banner is what a person is told when the server can be used.
type banner struct {
	address string // host:port, as bound
	dataDir string // absolute; empty: volatile
	tlsCert string // absolute; empty: TLS is off
	apiKey  bool

	// What was found in the data directory.
	stats locktable.Stats
	clock time.Duration

	members []node.MemberStatus // empty: a single server
}

// banner returns what the flags say; the rest comes from recover.
func (s *serveCmd) banner(address string, key secret) *banner {
	b := &banner{address: address, apiKey: key != "", tlsCert: absolute(s.TLSCert)}
	if !s.Volatile {
		b.dataDir = absolute(s.DataDir)
	}
	return b
}

// reader is the part of a node that the banner asks.
type reader interface {
	Read(ctx context.Context, f func(t *locktable.Table, now locktable.Time)) error
}

// recover looks at what the server starts with.
func (b *banner) recover(ctx context.Context, r reader) error {
	return r.Read(ctx, func(t *locktable.Table, now locktable.Time) {
		b.stats, b.clock = t.Stats(), time.Duration(now)
	})
}

// text is the block for the terminal.
func (b *banner) text() string {
	var t strings.Builder
	_, _ = fmt.Fprintf(&t, "DoubleDutch %s serves on %s%s\n", version(), b.url(b.address), b.reach())
	_, _ = fmt.Fprintf(&t, "  data     %s\n", b.data())
	_, _ = fmt.Fprintf(&t, "  found    %s\n", b.found())
	if len(b.members) > 0 {
		_, _ = fmt.Fprintf(&t, "  cluster  %s\n", b.cluster())
	}
	_, _ = fmt.Fprintf(&t, "  TLS      %-4s API key  %s\n", onOff(b.tlsCert != ""), onOff(b.apiKey))
	_, _ = fmt.Fprintf(&t, "  try      %s\n", b.curl())
	return t.String()
}

// attrs is the same for the log.
func (b *banner) attrs() []any {
	attrs := []any{
		"version", version(), "address", b.address, "data_dir", b.dataDir, "volatile", b.dataDir == "",
		"tls", b.tlsCert != "", "api_key", b.apiKey,
		"locks", b.stats.Held, "waiters", b.stats.Waiters, "sessions", b.stats.Sessions, "clock", b.clock.String(),
	}
	if len(b.members) > 0 {
		attrs = append(attrs, "cluster", b.cluster())
	}
	return attrs
}

func (b *banner) url(hostport string) string {
	if b.tlsCert != "" {
		return "https://" + hostport
	}
	return "http://" + hostport
}

// reach says that an address means every address.
func (b *banner) reach() string {
	if host, _ := b.split(); anyAddress(host) {
		return " (all addresses)"
	}
	return ""
}

func (b *banner) data() string {
	if b.dataDir == "" {
		return "in memory only: nothing survives a restart"
	}
	return b.dataDir
}

// cluster says who this node is, and who the others are.
func (b *banner) cluster() string {
	self, leader := "not a member yet", "no leader known"
	names := make([]string, 0, len(b.members))
	for _, m := range b.members {
		names = append(names, m.Name)
		if m.Self {
			self = m.Name
		}
		if m.Leader {
			leader = "leader " + m.Name
		}
	}
	return fmt.Sprintf("%s of %s (%s)", self, strings.Join(names, ", "), leader)
}

// found says what the data directory held.
func (b *banner) found() string {
	if b.stats == (locktable.Stats{}) {
		return "nothing yet"
	}
	return fmt.Sprintf("%d locks held, %d waiting, %d sessions, last token %d, clock at %s",
		b.stats.Held, b.stats.Waiters, b.stats.Sessions, b.stats.LastToken, b.clock.Round(time.Second))
}

// curl is a command that works when it is pasted into another terminal of this machine. The API key is left to the
// variable: it belongs on no screen.
func (b *banner) curl() string {
	host, port := b.split()
	if anyAddress(host) {
		host = "127.0.0.1"
	}
	options := ""
	if b.tlsCert != "" {
		name := certificateName(b.tlsCert, host)
		options += " --cacert " + shellQuote(b.tlsCert)
		if name != host {
			options += fmt.Sprintf(" --resolve %s:%s:%s", name, port, bracketed(host))
		}
		host = name
	}
	if b.apiKey {
		options += fmt.Sprintf(` -H "Authorization: Bearer $%s_API_KEY"`, envPrefix)
	}
	url := b.url(net.JoinHostPort(host, port)) + "/getLock/hello"
	if strings.Contains(url, "[") {
		url = "-g " + shellQuote(url) // brackets are special to curl and to shells
	}
	return "curl" + options + " " + url
}

func (b *banner) split() (host, port string) {
	host, port, err := net.SplitHostPort(b.address)
	if err != nil {
		return b.address, ""
	}
	return host, port
}

// anyAddress tells whether a server bound to host listens on all addresses of the machine.
func anyAddress(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || ip != nil && ip.IsUnspecified()
}

func bracketed(host string) string {
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// absolute makes a path one that works from every directory; an empty one stays empty.
func absolute(path string) string {
	if path == "" {
		return ""
	}
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}
