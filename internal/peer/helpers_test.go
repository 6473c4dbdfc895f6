package peer

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestMain fails when goroutines of this package outlive the tests.
func TestMain(m *testing.M) {
	code := m.Run()
	if left := leaks(); code == 0 && left != "" {
		fmt.Fprintln(os.Stderr, "goroutines are left:\n"+left)
		code = 1
	}
	os.Exit(code)
}

// leaks lists the goroutines that run code of this package, but for the caller's own.
func leaks() string {
	buf := make([]byte, 1<<20)
	all := strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n")
	var left []string
	for _, g := range all[1:] {
		if strings.Contains(g, "internal/peer.") {
			left = append(left, g)
		}
	}
	return strings.Join(left, "\n\n")
}

func ident(name string) Identity {
	return Identity{ClusterID: "c1", Name: name, Instance: name + "-disk"}
}

func echo(_ context.Context, _ Identity, request []byte) ([]byte, error) { return request, nil }

// start opens a Peer on a loopback port that answers with what it is asked, unless change says otherwise.
func start(t testing.TB, name string, change ...func(*Config)) *Peer {
	t.Helper()
	c := Config{Listen: "127.0.0.1:0", Self: func() Identity { return ident(name) }, Handle: echo}
	for _, f := range change {
		f(&c)
	}
	p, err := Listen(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func as(i Identity) func(*Config) { return func(c *Config) { c.Self = func() Identity { return i } } }

func admitting(f func(Identity, Kind) error) func(*Config) { return func(c *Config) { c.Admit = f } }

func handling(f func(context.Context, Identity, []byte) ([]byte, error)) func(*Config) {
	return func(c *Config) { c.Handle = f }
}

func withTLS(f TLSFiles) func(*Config) { return func(c *Config) { c.TLS = &f } }

func logging(b *syncBuffer) func(*Config) {
	return func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(b, nil)) }
}

// syncBuffer is a log that is read while it is written.
type syncBuffer struct {
	mu  chan struct{}
	buf bytes.Buffer
}

func newSyncBuffer() *syncBuffer { return &syncBuffer{mu: make(chan struct{}, 1)} }

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu <- struct{}{}
	defer func() { <-b.mu }()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu <- struct{}{}
	defer func() { <-b.mu }()
	return b.buf.String()
}

// patience ends a test that hangs.
func patience(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func mustCall(t testing.TB, p *Peer, addr, request string) string {
	t.Helper()
	answer, err := p.Call(patience(t), addr, []byte(request))
	if err != nil {
		t.Fatal(err)
	}
	return string(answer)
}

// eventually waits until ok, looking again after each thing that could change it is given time to happen.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for ctx := patience(t); !ok(); {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("never: %s", what)
		}
	}
}
