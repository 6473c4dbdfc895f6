//go:build linux

package supervise

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/doubledutch-lock/doubledutch/test/rig"
)

// screen is the side of a pseudo terminal at which a person would sit.
type screen struct {
	t      *testing.T
	master *os.File
	shown  rig.Output
	cmd    *exec.Cmd
	done   chan struct{}
}

// onTerminal runs a command as the leader of a session on a terminal of its own.
func onTerminal(t *testing.T, dir string, argv ...string) *screen {
	t.Helper()
	master, slave := openTerminalPair(t)
	s := &screen{t: t, master: master, done: make(chan struct{})}
	s.cmd = exec.Command(argv[0], argv[1:]...)
	s.cmd.Dir = dir
	s.cmd.Env = append(os.Environ(), "PS1=ready$ ", "TERM=dumb", "GORACE=atexit_sleep_ms=0", "HISTFILE=")
	s.cmd.Stdin, s.cmd.Stdout, s.cmd.Stderr = slave, slave, slave
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = slave.Close()
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := master.Read(b)
			_, _ = s.shown.Write(b[:n])
			if err != nil {
				return // all of the other side is gone
			}
		}
	}()
	go func() { defer close(s.done); _ = s.cmd.Wait() }()
	t.Cleanup(func() {
		_ = master.Close() // which sends HUP
		_ = s.cmd.Process.Kill()
		<-s.done
		if t.Failed() {
			t.Logf("the terminal showed:\n%s", s.shown.String())
		}
	})
	return s
}

func openTerminalPair(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("there are no pseudo terminals here: %v", err)
	}
	conn, err := master.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var number int
	var failed error
	err = conn.Control(func(fd uintptr) {
		if failed = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); failed == nil {
			number, failed = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	})
	if err != nil || failed != nil {
		t.Fatal(err, failed)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("there are no pseudo terminals here: %v", err)
	}
	return master, slave
}

func (s *screen) typed(text string) {
	s.t.Helper()
	if _, err := s.master.WriteString(text); err != nil {
		s.t.Fatal(err)
	}
}

// shows waits until the terminal shows a text so many times.
func (s *screen) shows(text string, times int) {
	s.t.Helper()
	eventually(s.t, fmt.Sprintf("%q is shown %d times", text, times), func() bool { return strings.Count(s.shown.String(), text) >= times })
}

// underShell is an interactive shell, and the command line that runs a script in a file under a wrapper.
func underShell(t *testing.T, script string, flags ...string) (*screen, string) {
	t.Helper()
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"script": script,
		"w":      "#!/bin/sh\n" + modeVariable + "=wrap exec " + self + " " + strings.Join(flags, " ") + ` -- bash script "$@"` + "\n",
	} {
		if err := os.WriteFile(dir+"/"+name, []byte(text), 0o700); err != nil { //nolint:gosec // to be executed
			t.Fatal(err)
		}
	}
	s := onTerminal(t, dir, "bash", "--norc", "--noprofile", "-i")
	s.shows("ready$ ", 1)
	return s, dir
}

func TestTerminalIsTheCommands(t *testing.T) {
	t.Parallel()
	s, _ := underShell(t, `read -p "name? " name; echo "<hello $name>"; stty -echo; stty echo; echo "<set>"`)
	s.typed("./w; echo \"<code=$?>\"\n")
	s.shows("name? ", 1)
	s.typed("Ada\n")
	s.shows("<hello Ada>", 1)
	s.shows("<set>", 1)
	s.shows("<code=0>", 1)
	// The shell has the terminal back.
	s.typed("read x; echo \"<again $x>\"\n")
	s.typed("text\n")
	s.shows("<again text>", 1)
}

func TestKeysReachTheCommand(t *testing.T) {
	t.Parallel()
	s, _ := underShell(t, `trap 'echo "<int>" >/dev/tty; exit 9' INT; echo "<up>" >/dev/tty; while :; do sleep 0.02; done`)
	// The other parts of the pipelines end by the same key, and so does the shell's line.
	for i, line := range []string{"./w\n", "./w | cat\n", "true | ./w\n"} {
		s.shows("ready$ ", i+1)
		s.typed(line)
		s.shows("<up>", i+1)
		s.typed("\x03")
		s.shows("<int>", i+1)
		s.shows("gone by", i+1)
	}
}

// Part of a pipeline, whose other parts have the terminal too, it gets it when it wants it.
func TestTerminalOnDemand(t *testing.T) {
	t.Parallel()
	s, _ := underShell(t, `read name </dev/tty; echo "<hello $name>"`)
	s.typed("true | ./w | cat; echo \"<code=${PIPESTATUS[1]}>\"\n")
	s.typed("Ada\n")
	s.shows("<hello Ada>", 1)
	s.shows("<code=0>", 1)
}

// A command that has read from the terminal has it, and nothing is about to continue it.
func TestStopAndContinue(t *testing.T) {
	t.Parallel()
	s, _ := underShell(t, `read line; echo "<up>"; read line; echo "<read $line>"; exit 4`)
	s.typed("./w; echo \"<code=$?>\"\n")
	s.typed("first\n")
	s.shows("<up>", 1)
	s.typed("\x1a")
	s.shows("Stopped", 1)
	s.shows("ready$ ", 2)
	s.typed("echo \"<shell>\"\n")
	s.shows("<shell>", 2) // typed, and printed
	s.typed("fg; echo \"<code=$?>\"\n")
	s.shows("./w", 2)
	s.typed("text\n")
	s.shows("<read text>", 1)
	s.shows("<code=4>", 1)
}

// A job in the background that reads is stopped, as always, until it is brought to the front.
func TestBackgroundJob(t *testing.T) {
	t.Parallel()
	s, _ := underShell(t, `echo "<up>"; read line; echo "<read $line>"`)
	s.typed("./w &\n")
	s.shows("<up>", 1)
	s.shows("wrap: stopped", 1)
	s.typed("jobs\n")
	s.shows("Stopped", 1)
	s.typed("fg\n")
	s.typed("text\n")
	s.shows("<read text>", 1)
}

// Who stops the command and goes away loses the lock.
func TestStoppedForTooLong(t *testing.T) {
	t.Parallel()
	s, dir := underShell(t, `echo $$ > leader; read line; echo "<up>"; read line`, "-ttl 3s", "-renewed renewed", "-grace 500ms")
	touch(t, dir+"/renewed")
	s.typed("./w\n")
	s.typed("first\n")
	s.shows("<up>", 1)
	s.typed("\x1a")
	s.shows("Stopped", 1)
	b, err := os.ReadFile(dir + "/leader")
	if err != nil {
		t.Fatal(err)
	}
	leader := number(t, string(b))
	eventually(t, "the command is ended", func() bool { return !isThere(leader) })
	s.typed("fg; echo \"<code=$?>\"\n")
	s.shows("<code=123>", 1)
}
