//go:build linux

package e2e

import (
	"cmp"
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
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
	cmd      *exec.Cmd
	out, err *capture
	ended    chan struct{} // closed when the process is gone
	base     string        // such as http://127.0.0.1:1234; set by awaitUp
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
		t: t, options: o, dir: o.dir, ended: make(chan struct{}), client: o.client,
		out: newCapture(t.Name() + ": standard output"), err: newCapture(t.Name() + ": standard error"),
	}
	if s.client == nil {
		s.client = newClient()
	}
	argv := s.argv()
	s.cmd = exec.Command(argv[0], argv[1:]...)
	s.cmd.Stdout, s.cmd.Stderr = s.out, s.err
	s.cmd.Env = append(os.Environ(), o.env...)
	if o.apiKey != "" {
		s.cmd.Env = append(s.cmd.Env, "DOUBLEDUTCH_API_KEY="+o.apiKey)
	}
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	s.cmd.WaitDelay = soon
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = s.cmd.Wait()
		close(s.ended)
	}()
	t.Cleanup(s.clean)
	return s
}

func (s *server) argv() []string {
	o := s.options
	argv := append([]string{}, o.wrap...)
	if o.plain {
		argv = append(argv, plainBinary)
	} else {
		argv = append(argv, testedBinary)
	}
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
	_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
	<-s.ended
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

func (s *server) isGone() bool {
	select {
	case <-s.ended:
		return true
	default:
		return false
	}
}

// host is the address without the scheme.
func (s *server) host() string {
	_, host, _ := strings.Cut(s.base, "://")
	return host
}

// pid returns the server's own process id, also when it runs under another program.
func (s *server) pid() int {
	s.t.Helper()
	pid := s.cmd.Process.Pid
	if len(s.options.wrap) == 0 {
		return pid
	}
	path := "/proc/" + strconv.Itoa(pid) + "/task/" + strconv.Itoa(pid) + "/children"
	child := 0
	eventually(s.t, soon, "the wrapped process shows up in "+path, func() bool {
		b, _ := os.ReadFile(path)
		child, _ = strconv.Atoi(strings.TrimSpace(string(b)))
		return child != 0
	})
	return child
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
	select {
	case <-s.ended:
	case <-time.After(within):
		s.t.Fatalf("the server still runs after %v", within)
	}
	state := s.cmd.ProcessState
	if w, ok := state.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		return -int(w.Signal())
	}
	return state.ExitCode()
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
