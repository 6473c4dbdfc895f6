//go:build linux

package run

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What the lock of the command under test lasts. Short, so that the tests are; but long enough for a machine that is busy.
const (
	ttl     = 6 * time.Second
	runWith = "--ttl=6s --grace=500ms --timeout=2s"
)

// contest is a command that holds a lock, and a second client that waits for it.
type contest struct {
	*testing.T
	server  *process
	address string // of the server, for the second client
	run     *process
	family  *family
	granted <-chan time.Duration
}

// ground is where a contest takes place; the zero value is a loopback with a server of its own.
type ground struct {
	listen  string                     // "": 127.0.0.1:0
	flags   []string                   // of the server
	through func(server string) string // the address that the command's side is given
	wrap    []string                   // of run
	args    string                     // further flags of run
}

// begin starts a server, the command with all its relatives, and the second client.
func (g ground) begin(t *testing.T) *contest {
	t.Helper()
	t.Parallel()
	if g.listen == "" {
		g.listen = "127.0.0.1:0"
	}
	c := &contest{T: t, family: &family{t, t.TempDir()}}
	c.server, c.address = serve(t, g.listen, g.flags...)
	through := c.address
	if g.through != nil {
		through = g.through(c.address)
	}
	args := []string{"run", "--server=http://" + through}
	args = append(args, strings.Fields(runWith+" "+g.args)...)
	args = append(args, "lock", "--", "/proc/self/exe", "command")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	args[len(args)-2] = self
	c.run = begin(t, g.wrap, []string{heartVariable + "=" + c.family.dir}, args...)
	c.family.awaitBeats()
	c.granted = rival(t, c.address, "lock")
	return c
}

// moved waits until the second client has the lock.
func (c *contest) moved() time.Duration {
	c.Helper()
	select {
	case at := <-c.granted:
		return at
	case <-time.After(2 * patience):
		c.Fatal("the second client does not get the lock")
	}
	return 0
}

// safe is the judgement: everything was dead before the lock moved.
func (c *contest) safe() {
	c.Helper()
	at := c.moved()
	if late := c.family.late(at); late != "" {
		c.Errorf("hearts that beat after the lock had moved: %s", late)
		return
	}
	c.Log(c.run.stderr.String())
	c.Logf("the last heartbeat was %v before the lock moved", c.family.gap(at))
}

func (c *contest) code(want int) {
	c.Helper()
	if got := c.run.code(); got != want {
		c.Errorf("run ended with %d, want %d", got, want)
	}
}

func TestNetworkIsCut(t *testing.T) {
	var between *swallower
	c := ground{through: func(server string) string {
		between = newSwallower(t, server)
		return between.address
	}}.begin(t)
	between.cut.Store(true)
	c.safe()
	c.code(123)
}

func TestNetworkOfAnotherMachineIsCut(t *testing.T) {
	island := newIsland(t)
	c := ground{
		listen: island.here + ":0", flags: []string{"--insecure"}, wrap: island.wrap(),
	}.begin(t)
	island.cut(t)
	c.safe()
	c.code(123)
}

// The server goes on when the lifetime of the lock has passed: the lock moves at once.
func TestServerIsFrozen(t *testing.T) {
	c := ground{}.begin(t)
	c.server.signal(syscall.SIGSTOP)
	time.Sleep(ttl) // what happens in between is what is tested
	c.server.signal(syscall.SIGCONT)
	c.safe()
	c.code(123)
}

func TestWrapperIsKilled(t *testing.T) {
	c := ground{}.begin(t)
	c.run.signal(syscall.SIGKILL)
	c.safe()
}

func TestWrapperIsStopped(t *testing.T) {
	c := ground{}.begin(t)
	c.run.signal(syscall.SIGSTOP)
	c.safe()
	c.run.signal(syscall.SIGCONT)
	c.code(123)
}

func TestGuardianIsKilled(t *testing.T) {
	c := ground{}.begin(t)
	if err := syscall.Kill(c.run.guardian(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	c.safe()
	c.code(125)
}

func TestGuardianIsStoppedAndNetworkIsCut(t *testing.T) {
	var between *swallower
	c := ground{through: func(server string) string {
		between = newSwallower(t, server)
		return between.address
	}}.begin(t)
	if err := syscall.Kill(c.run.guardian(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	between.cut.Store(true)
	c.safe()
	c.code(123)
}

// An end in peace: what the command has left behind is ended before the lock is released.
func TestCommandIsKilled(t *testing.T) {
	c := ground{args: "--leftover=kill --verbose"}.begin(t)
	for _, command := range children(t, c.run.guardian()) {
		if name, _ := os.ReadFile("/proc/" + strconv.Itoa(command) + "/cmdline"); strings.HasSuffix(string(name), "\x00command\x00") {
			_ = syscall.Kill(command, syscall.SIGKILL)
		}
	}
	c.safe()
	c.code(137)
}

// The judgement can be unfavourable: a command that is let go on is found out.
func TestJudgeSeesLateHearts(t *testing.T) {
	var between *swallower
	c := ground{args: "--on-lost=warn", through: func(server string) string {
		between = newSwallower(t, server)
		return between.address
	}}.begin(t)
	between.cut.Store(true)
	if c.family.late(c.moved()) == "" {
		t.Error("the hearts beat on, and nobody noticed")
	}
	c.run.signal(syscall.SIGKILL) // and with it everything
	eventually(t, "no heart beats", func() bool {
		before := c.family.lastBeats()
		time.Sleep(20 * beatEvery)
		after := c.family.lastBeats()
		for name := range before {
			if before[name] != after[name] {
				return false
			}
		}
		return true
	})
}
