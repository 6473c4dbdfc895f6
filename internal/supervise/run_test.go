//go:build linux

package supervise

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience is a deadline that only something that hangs will miss.
const patience = time.Minute

// wrapped is a wrapper under test, with what it printed.
type wrapped struct {
	t           *testing.T
	cmd         *exec.Cmd
	dir         string
	out, stderr buffer
	done        chan struct{}
}

// buffer can be read while a process writes into it.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
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

// stubborn is a script whose processes want to stay: they ignore TERM, leave the group and the session, and lose their parents. Each
// writes its process id to a file.
const stubborn = `trap '' TERM INT HUP
(trap '' TERM; echo $BASHPID > member; while :; do sleep 0.05; done) &
setsid bash -c 'trap "" TERM; echo $$ > session; (setsid bash -c "trap \"\" TERM; echo \$\$ > orphan; while :; do sleep 0.05; done" &); while :; do sleep 0.05; done' &
echo $$ > leader
while :; do sleep 0.05; done`

// pids are those of a stubborn command.
func (w *wrapped) pids() map[string]int {
	pids := map[string]int{}
	for _, name := range []string{"leader", "member", "session", "orphan"} {
		pids[name] = number(w.t, w.await(name))
	}
	return pids
}

func (w *wrapped) nothingIsLeft(pids map[string]int) {
	w.t.Helper()
	for name, pid := range pids {
		if isThere(pid) {
			w.t.Errorf("%s is still there", name)
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}

func touch(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A lease that is not renewed any more takes everything with it, the stubborn too.
func TestDeadlineKillsAll(t *testing.T) {
	t.Parallel()
	w := wrap(t, stubborn, "-ttl", "2s", "-renewed", "renewed", "-grace", "300ms")
	touch(t, w.file("renewed"))
	pids := w.start().pids()
	if err := os.Remove(w.file("renewed")); err != nil {
		t.Fatal(err)
	}
	if code := w.code(); code != 123 {
		t.Errorf("ended with %d", code)
	}
	w.nothingIsLeft(pids)
}

// Who reacts to TERM is not killed, but its lease was lost all the same.
func TestTermComesBeforeKill(t *testing.T) {
	t.Parallel()
	w := wrap(t, `trap 'cat <&$DOUBLEDUTCH_LOST_FD > told; cat /dev/fd/$DOUBLEDUTCH_EXPIRES_FD > line; exit 0' TERM; while :; do sleep 0.02; done`,
		"-ttl", "500ms", "-grace", "60s").start()
	if code := w.code(); code != 123 {
		t.Errorf("ended with %d", code)
	}
	// It began when there was less than the grace left.
	if _, err := os.Stat(w.file("told")); err == nil || !strings.Contains(w.stderr.String(), "before the command could begin") {
		t.Error("it was begun")
	}
	w = wrap(t, `trap 'cat <&$DOUBLEDUTCH_LOST_FD > told; cat /dev/fd/$DOUBLEDUTCH_EXPIRES_FD > line; exit 0' TERM; echo > up; while :; do sleep 0.02; done`,
		"-ttl", "62s", "-grace", "60s").start()
	if code := w.code(); code != 123 || w.await("told") != "lost" {
		t.Errorf("ended with %d", code)
	}
	if line := w.await("line"); !regexp.MustCompile(`^lost \d{10}\.\d{9}$`).MatchString(line) {
		t.Errorf("the deadline is told as %q", line)
	}
}

func TestDeadlineIsTold(t *testing.T) {
	t.Parallel()
	w := wrap(t, `cat /dev/fd/$DOUBLEDUTCH_EXPIRES_FD > first; until [ "$(cat first)" != "$(cat /dev/fd/$DOUBLEDUTCH_EXPIRES_FD)" ]; do sleep 0.01; done
cut -d ' ' -f 1 /proc/uptime > uptime; cat /dev/fd/$DOUBLEDUTCH_EXPIRES_FD > second`, "-renewed", "renewed", "-ttl", "1h")
	touch(t, w.file("renewed"))
	if code := w.start().code(); code != 0 {
		t.Errorf("ended with %d", code)
	}
	var first, second, uptime float64
	for name, into := range map[string]*float64{"first": &first, "second": &second, "uptime": &uptime} {
		if _, err := fmt.Sscanf(strings.TrimPrefix(w.await(name), "held "), "%f", into); err != nil {
			t.Fatal(err)
		}
	}
	if second <= first || second <= uptime || second > uptime+3600 {
		t.Errorf("the deadlines were told as %f and %f at %f", first, second, uptime)
	}
}

func TestOtherWaysToLose(t *testing.T) {
	t.Parallel()
	const obeying = `trap 'exit 4' TERM; echo > up; read x <&$DOUBLEDUTCH_LOST_FD; [ "$x" = lost ] && echo told > told; sleep 0.5; exit 6`
	for _, tt := range []struct {
		onLost string
		lost   bool // at once, not by the deadline
		want   int
	}{{"signal", false, 123}, {"signal", true, 123}, {"warn", false, 6}, {"warn", true, 6}, {"kill", true, 123}} {
		t.Run(fmt.Sprint(tt.onLost, tt.lost), func(t *testing.T) {
			t.Parallel()
			w := wrap(t, obeying, "-on-lost", tt.onLost, "-lost", "lost", "-ttl", "2s", "-renewed", "renewed")
			touch(t, w.file("renewed"))
			w.start().await("up")
			if tt.lost {
				touch(t, w.file("lost"))
			} else if err := os.Remove(w.file("renewed")); err != nil {
				t.Fatal(err)
			}
			if code := w.code(); code != tt.want {
				t.Errorf("ended with %d, want %d", code, tt.want)
			}
			if tt.onLost == "warn" && w.await("told") != "told" {
				t.Error("it was not told")
			}
		})
	}
}

// The wrapper is killed: nothing stays behind.
func TestKilledWrapper(t *testing.T) {
	t.Parallel()
	litter := t.TempDir() + "/litter"
	if err := os.Mkdir(litter, 0o700); err != nil {
		t.Fatal(err)
	}
	touch(t, litter+"/key")
	w := wrap(t, stubborn, "-grace", "200ms", "-litter", litter).start()
	pids := w.pids()
	_ = w.cmd.Process.Kill()
	eventually(t, "the litter is removed", func() bool {
		_, err := os.Stat(litter)
		return os.IsNotExist(err)
	})
	eventually(t, "nothing is left", func() bool {
		for _, pid := range pids {
			if isThere(pid) {
				return false
			}
		}
		return true
	})
}

// The wrapper is stopped: the guardian keeps the deadline, and the wrapper hears of it when it goes on.
func TestStoppedWrapper(t *testing.T) {
	t.Parallel()
	w := wrap(t, stubborn, "-ttl", "2s", "-renewed", "renewed")
	touch(t, w.file("renewed"))
	pids := w.start().pids()
	_ = w.cmd.Process.Signal(unix.SIGSTOP)
	eventually(t, "nothing is left", func() bool {
		for _, pid := range pids {
			if isThere(pid) {
				return false
			}
		}
		return true
	})
	_ = w.cmd.Process.Signal(unix.SIGCONT)
	if code := w.code(); code != 123 {
		t.Errorf("ended with %d", code)
	}
}

// guardian is the process between the wrapper and the command.
func (w *wrapped) guardian(leader int) int {
	w.t.Helper()
	p, err := look(leader)
	if err != nil {
		w.t.Fatal(err)
	}
	return p.parent
}

// The guardian is killed: the wrapper sees to the rest before it returns.
func TestKilledGuardian(t *testing.T) {
	t.Parallel()
	w := wrap(t, stubborn).start()
	pids := w.pids()
	_ = unix.Kill(w.guardian(pids["leader"]), unix.SIGKILL)
	if code := w.code(); code != 125 || !strings.Contains(w.stderr.String(), "the guardian") {
		t.Errorf("ended with %d", code)
	}
	w.nothingIsLeft(pids)
}

// The guardian is stopped, and the lease ends: the wrapper kills it, and everything else.
func TestStoppedGuardian(t *testing.T) {
	t.Parallel()
	w := wrap(t, stubborn, "-ttl", "2s", "-renewed", "renewed", "-reserve", "1s")
	touch(t, w.file("renewed"))
	pids := w.start().pids()
	_ = unix.Kill(w.guardian(pids["leader"]), unix.SIGSTOP)
	if err := os.Remove(w.file("renewed")); err != nil {
		t.Fatal(err)
	}
	if code := w.code(); code != 123 {
		t.Errorf("ended with %d", code)
	}
	w.nothingIsLeft(pids)
}

// A guardian that was stopped for a while finds the later deadlines before it looks at the time.
func TestGuardianThatSleptKillsNobody(t *testing.T) {
	t.Parallel()
	w := wrap(t, `echo $$ > leader; until [ -e enough ]; do sleep 0.02; done; exit 9`, "-ttl", "1500ms", "-renewed", "renewed", "-grace", "10ms")
	touch(t, w.file("renewed"))
	guardian := w.start().guardian(number(t, w.await("leader")))
	_ = unix.Kill(guardian, unix.SIGSTOP)
	time.Sleep(1600 * time.Millisecond) // so long that its old deadline has passed for certain
	_ = unix.Kill(guardian, unix.SIGCONT)
	touch(t, w.file("enough"))
	if code := w.code(); code != 9 {
		t.Errorf("ended with %d", code)
	}
}

// Processes that are started faster than they can be listed.
func TestFlightIsOfNoUse(t *testing.T) {
	t.Parallel()
	w := wrap(t, `trap '' TERM; hop() { echo $BASHPID > here; sleep 0.01; ( hop & ) ; exit; }; ( hop & ); echo > up; sleep 300`,
		"-ttl", "1500ms", "-renewed", "renewed", "-grace", "50ms")
	touch(t, w.file("renewed"))
	w.start().await("up")
	if err := os.Remove(w.file("renewed")); err != nil {
		t.Fatal(err)
	}
	if code := w.code(); code != 123 {
		t.Errorf("ended with %d", code)
	}
	gone := w.whenGone()
	info, err := os.Stat(w.file("here"))
	if err != nil {
		t.Fatal(err)
	}
	last := now() - instant(time.Since(info.ModTime()))
	if last > gone {
		t.Errorf("it lived %v after its end", time.Duration(last-gone))
	}
}
