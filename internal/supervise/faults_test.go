//go:build linux

package supervise

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

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

// A shell that has children and is replaced by the wrapper (exec) leaves it children that are not the command's.
func TestInheritedChildrenAreSpared(t *testing.T) {
	t.Parallel()
	w := wrap(t, "")
	inner := `sleep 300 & echo $! > inherited; exec /proc/self/exe.link -- bash -c 'echo $$ > leader; sleep 300'`
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	w.cmd.Path, w.cmd.Args = "/bin/bash", []string{"bash", "-c", strings.ReplaceAll(inner, "/proc/self/exe.link", self)}
	w.cmd.WaitDelay = time.Millisecond // what is spared has the output
	w.start()
	inherited := number(t, w.await("inherited"))
	defer func() { _ = unix.Kill(inherited, unix.SIGKILL) }()
	_ = unix.Kill(w.guardian(number(t, w.await("leader"))), unix.SIGKILL)
	if code := w.code(); code != 125 || !isThere(inherited) {
		t.Errorf("ended with %d; the inherited child is there: %v", code, isThere(inherited))
	}
}

// Once the command has ended, signals are for what it has left behind, wherever that is.
func TestSignalsEndWhatIsLeft(t *testing.T) {
	t.Parallel()
	w := wrap(t, `setsid bash -c 'echo $$ > away; exec sleep 300' & until [ -s away ]; do sleep 0.01; done; echo $$ > leader; exit 5`).start()
	away, leader := number(t, w.await("away")), number(t, w.await("leader"))
	eventually(t, "the command has ended", func() bool { _, err := look(leader); return err != nil })
	_ = w.cmd.Process.Signal(unix.SIGTERM)
	if code := w.code(); code != 5 || isThere(away) {
		t.Errorf("ended with %d", code)
	}
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

// A guardian that was stopped for a while finds the later deadlines before it looks at the time. The lease is long, so that a machine that is
// slow meanwhile does not end it.
func TestGuardianThatSleptKillsNobody(t *testing.T) {
	t.Parallel()
	w := wrap(t, `echo $$ > leader; until [ -e enough ]; do sleep 0.02; done; exit 9`, "-ttl", "6s", "-renewed", "renewed", "-grace", "10ms")
	touch(t, w.file("renewed"))
	guardian := w.start().guardian(number(t, w.await("leader")))
	_ = unix.Kill(guardian, unix.SIGSTOP)
	time.Sleep(6200 * time.Millisecond) // so long that its old deadline has passed for certain
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
