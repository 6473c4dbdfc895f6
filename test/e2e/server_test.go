//go:build linux

package e2e

import (
	"cmp"
	"context"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/doubledutch-lock/doubledutch/test/rig"
)

// Deadlines that only something that hangs will miss.
const (
	startWithin = 60 * time.Second
	soon        = 30 * time.Second
	pollEvery   = 5 * time.Millisecond
)

// options say how a server is started. The zero value is a durable server in a new directory, at log level debug.
type options struct {
	dir      string   // data directory; "": a new one
	volatile bool     // no directory at all
	args     []string // further flags of serve
	level    string   // log level; "": debug
	env      []string // further variables
	wrap     []string // a command that runs the server, such as strace with its flags
	plain    bool     // not under the race detector: for what measures time, or is traced
	client   *http.Client
	apiKey   string
}

// server is one process, running or ended.
type server struct {
	t        *testing.T
	options  options
	dir      string
	process  *rig.Process
	out, err *capture
	base     string // such as http://127.0.0.1:1234; set by awaitUp
	client   *http.Client
}

// start starts a server and waits until it can be used.
func start(t *testing.T, o options) *server {
	t.Helper()
	s := launch(t, o)
	s.awaitUp()
	return s
}

// launch starts a server and does not wait for anything.
func launch(t *testing.T, o options) *server {
	t.Helper()
	if o.dir == "" && !o.volatile {
		o.dir = filepath.Join(t.TempDir(), "data")
	}
	s := &server{
		t: t, options: o, dir: o.dir, client: o.client,
		out: newCapture(t.Name() + ": standard output"), err: newCapture(t.Name() + ": standard error"),
	}
	if s.client == nil {
		s.client = newClient()
	}
	env := o.env
	if o.apiKey != "" {
		env = append(env[:len(env):len(env)], "DOUBLEDUTCH_API_KEY="+o.apiKey)
	}
	var err error
	s.process, err = rig.Start(rig.Command{Argv: s.argv(), Wrap: o.wrap, Env: env, Stdout: s.out, Stderr: s.err})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.clean)
	return s
}

func (s *server) argv() []string {
	o := s.options
	program := testedBinary
	if o.plain {
		program = plainBinary
	}
	argv := []string{program}
	argv = append(argv, "serve", "--listen", "127.0.0.1:0", "--log-level", cmp.Or(o.level, "debug"))
	if o.volatile {
		argv = append(argv, "--volatile")
	} else {
		argv = append(argv, "--data-dir", o.dir)
	}
	return append(argv, o.args...)
}

// clean makes sure that nothing is left running, and shows what the server said if the test failed.
func (s *server) clean() {
	s.process.KillAll()
	s.client.CloseIdleConnections()
	if s.t.Failed() {
		s.t.Logf("standard output:\n%s\nstandard error, its end:\n%s", s.out, tail(s.err.String(), 3000))
	}
}

func tail(text string, most int) string { return text[max(0, len(text)-most):] }

var servesOn = regexp.MustCompile(`serves on (https?://\S+)`)

// awaitUp returns when the start-up block is printed and the server says that it is ready.
func (s *server) awaitUp() {
	s.t.Helper()
	if !s.comesUp() {
		s.t.Fatalf("the server ended while it started (%d)", s.exit(soon))
	}
}

// comesUp waits until the server is ready (true) or has ended (false).
func (s *server) comesUp() bool {
	s.t.Helper()
	up := false
	eventually(s.t, startWithin, "the server is up", func() bool {
		if s.base == "" {
			if m := servesOn.FindStringSubmatch(s.out.String()); m != nil {
				s.base = m[1]
			}
		}
		up = s.base != "" && s.get("/readyz").status == http.StatusOK
		return up || s.isGone()
	})
	return up
}

func (s *server) isGone() bool { return s.process.IsGone() }

// host is the address without the scheme.
func (s *server) host() string {
	_, host, _ := strings.Cut(s.base, "://")
	return host
}

// pid returns the server's own process id, also when it runs under another program.
func (s *server) pid() (pid int) {
	s.t.Helper()
	eventually(s.t, soon, "the server shows up", func() bool {
		var err error
		pid, err = s.process.Pid()
		return err == nil
	})
	return pid
}

// signal sends sig to the server.
func (s *server) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := syscall.Kill(s.pid(), sig); err != nil {
		s.t.Fatal(err)
	}
}

// exit waits for the end of the process and returns its exit code, or minus the signal that ended it.
func (s *server) exit(within time.Duration) int {
	s.t.Helper()
	code, err := s.process.Exit(within)
	if err != nil {
		s.t.Fatal(err)
	}
	return code
}

// kill ends the server as a power cut would, except that the kernel keeps what was written.
func (s *server) kill() {
	s.t.Helper()
	s.signal(syscall.SIGKILL)
	s.exit(soon)
}

// stop ends the server in peace and expects that it goes well.
func (s *server) stop() {
	s.t.Helper()
	s.signal(syscall.SIGTERM)
	if code := s.exit(soon); code != 0 {
		s.t.Fatalf("the server ended with %d after SIGTERM", code)
	}
}

// restart starts a server like s on the directory that s has left behind, without what it was wrapped in.
func (s *server) restart() *server {
	s.t.Helper()
	o := s.options
	o.wrap, o.env = nil, nil
	return start(s.t, o)
}

// eventually polls until done, and fails the test when that takes longer than within.
func eventually(t *testing.T, within time.Duration, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}
