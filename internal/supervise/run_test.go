//go:build linux

package supervise

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/doubledutch-lock/doubledutch/test/rig"
)

// patience is a deadline that only something that hangs will miss.
const patience = time.Minute

// wrapped is a wrapper under test, with what it printed.
type wrapped struct {
	t           *testing.T
	cmd         *exec.Cmd
	dir         string
	out, stderr rig.Output
	done        chan struct{}
}

// wrap prepares a wrapper with flags for a shell script, which finds itself in a directory of its own.
func wrap(t *testing.T, script string, flags ...string) *wrapped {
	t.Helper()
	w := &wrapped{t: t, dir: t.TempDir(), done: make(chan struct{})}
	args := append(flags, "--", "/bin/bash", "-c", script)
	w.cmd = exec.Command("/proc/self/exe", args...)
	w.cmd.Env = append(os.Environ(), modeVariable+"=wrap", "GORACE=atexit_sleep_ms=0")
	w.cmd.Dir = w.dir
	w.cmd.Stdout, w.cmd.Stderr = &w.out, &w.stderr
	w.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	w.cmd.WaitDelay = patience
	return w
}

func (w *wrapped) start() *wrapped {
	w.t.Helper()
	if err := w.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	go func() { defer close(w.done); _ = w.cmd.Wait() }()
	w.t.Cleanup(func() {
		_ = w.cmd.Process.Kill()
		<-w.done
		if w.t.Failed() {
			w.t.Logf("standard output:\n%s\nstandard error:\n%s", w.out.String(), w.stderr.String())
		}
	})
	return w
}

// code waits for the end.
func (w *wrapped) code() int {
	w.t.Helper()
	select {
	case <-w.done:
	case <-time.After(patience):
		w.t.Fatal("it does not end")
	}
	return w.cmd.ProcessState.ExitCode()
}

// file is the path of a file in the directory of the command.
func (w *wrapped) file(name string) string { return filepath.Join(w.dir, name) }

// await returns the content of a file once it has a whole line.
func (w *wrapped) await(name string) string {
	w.t.Helper()
	var text string
	eventually(w.t, name+" is there", func() bool {
		b, _ := os.ReadFile(w.file(name))
		text = string(b)
		return strings.HasSuffix(text, "\n")
	})
	return strings.TrimSpace(text)
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// isThere tells whether a process runs.
func isThere(pid int) bool {
	p, err := look(pid)
	return err == nil && !p.dead()
}

func number(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestCodesAreThoseOfAShell(t *testing.T) {
	t.Parallel()
	for script, want := range map[string]int{
		"exit 0": 0, "exit 7": 7, "exit 255": 255, "kill -9 $$": 137, "kill -USR1 $$": 138, "no-such-command": 127, "exec /": 126,
	} {
		w := wrap(t, script).start()
		if got := w.code(); got != want {
			t.Errorf("%q ended with %d, want %d", script, got, want)
		}
	}
}

func TestCommandThatCannotBeRun(t *testing.T) {
	t.Parallel()
	noCommand := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(noCommand, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	for command, want := range map[string]int{"no-such-command": 127, "/no/such": 127, noCommand: 126, "/": 126} {
		w := wrap(t, "")
		w.cmd.Args = []string{w.cmd.Args[0], "--", command}
		if got := w.start().code(); got != want {
			t.Errorf("%q ended with %d, want %d", command, got, want)
		}
		if code, err := Find(command); code != want || err == nil {
			t.Errorf("Find says %d, %v of %q", code, err, command)
		}
	}
	if code, err := Find("sh"); code != 0 || err != nil {
		t.Errorf("Find says %d, %v of sh", code, err)
	}
}

func TestStreamsArePassedThrough(t *testing.T) {
	t.Parallel()
	w := wrap(t, "cat; echo complaint >&2")
	w.cmd.Stdin = strings.NewReader(strings.Repeat("text\n", 50_000))
	if code := w.start().code(); code != 0 || len(w.out.String()) != 250_000 || !strings.Contains(w.stderr.String(), "complaint") {
		t.Errorf("ended with %d after %d bytes", code, len(w.out.String()))
	}
}

func TestSignalsAreForwardedToTheGroup(t *testing.T) {
	t.Parallel()
	// The child in the background is in the same group.
	script := `for s in INT TERM HUP QUIT USR1 USR2 WINCH; do trap "echo $s >> got" $s; done
(trap '' INT TERM HUP QUIT USR1 WINCH; trap 'echo child > child; exit' USR2; echo ready > ready; while :; do sleep 0.02; done) &
until grep -qs USR2 got; do sleep 0.02; done; wait; exit 3`
	w := wrap(t, script).start()
	w.await("ready")
	for _, s := range forwarded {
		if err := w.cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(unix.SignalName(s.(syscall.Signal)), "SIG")
		if s == unix.SIGUSR2 {
			continue // ends both
		}
		if s == unix.SIGWINCH {
			break
		}
		eventually(t, name+" arrives", func() bool {
			b, _ := os.ReadFile(w.file("got"))
			return strings.Contains(string(b), name)
		})
	}
	if code := w.code(); code != 3 || w.await("child") != "child" {
		t.Errorf("ended with %d", code)
	}
}

func TestIgnoredSignalsStayIgnored(t *testing.T) {
	t.Parallel()
	w := wrap(t, "")
	inner := strings.Join([]string{"trap '' HUP; exec /proc/$PPID/exe -- /bin/sh -c 'kill -HUP $$; echo alive > alive'"}, "")
	w.cmd.Path, w.cmd.Args = "/bin/bash", []string{"bash", "-c", inner}
	if code := w.start().code(); code != 0 || w.await("alive") != "alive" {
		t.Errorf("ended with %d", code)
	}
}

// What the command has left behind is waited for, ended, or left alone.
func TestLeftovers(t *testing.T) {
	t.Parallel()
	const script = `sleep 300 & echo $! > group
setsid bash -c 'echo $$ > away; sleep 300' & until [ -s away ]; do sleep 0.01; done`
	t.Run("wait", func(t *testing.T) {
		t.Parallel()
		w := wrap(t, script+"; exit 5", "-leftover", "wait").start()
		group, away := number(t, w.await("group")), number(t, w.await("away"))
		for _, pid := range []int{group, away} {
			time.Sleep(50 * time.Millisecond)
			select {
			case <-w.done:
				t.Fatal("it did not wait")
			default:
			}
			_ = unix.Kill(pid, unix.SIGKILL)
			killChildren(t, pid)
		}
		if code := w.code(); code != 5 {
			t.Errorf("ended with %d", code)
		}
	})
	t.Run("kill", func(t *testing.T) {
		t.Parallel()
		w := wrap(t, script+"; exit 5", "-leftover", "kill").start()
		if code := w.code(); code != 5 {
			t.Errorf("ended with %d", code)
		}
		if isThere(number(t, w.await("group"))) || isThere(number(t, w.await("away"))) {
			t.Error("something is left")
		}
	})
	t.Run("leave", func(t *testing.T) {
		t.Parallel()
		w := wrap(t, script+"; kill $(cat group); exit 5", "-leftover", "leave")
		w.cmd.WaitDelay = time.Millisecond // the daemon has its output
		if code := w.start().code(); code != 5 {
			t.Errorf("ended with %d", code)
		}
		away := number(t, w.await("away"))
		if !isThere(away) {
			t.Error("the daemon was killed")
		}
		_ = unix.Kill(-away, unix.SIGKILL)
	})
}

func killChildren(t *testing.T, pid int) {
	t.Helper()
	all, err := processes()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		if p.group == pid {
			_ = unix.Kill(p.pid, unix.SIGKILL)
		}
	}
}

var goneBy = regexp.MustCompile(`gone by 0*(\d+)\.(\d+)`)

// whenGone is when the wrapper says that nothing is left.
func (w *wrapped) whenGone() instant {
	w.t.Helper()
	m := goneBy.FindStringSubmatch(w.stderr.String())
	if m == nil {
		w.t.Fatal("the wrapper did not say when it was done")
	}
	n, err := strconv.ParseInt(m[1]+m[2], 10, 64)
	if err != nil {
		w.t.Fatal(err)
	}
	return instant(n)
}
