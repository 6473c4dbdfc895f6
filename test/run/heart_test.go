//go:build linux

package run

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// heartVariable makes this test binary a heart that beats into files in the directory that it names. The argument is the name.
const heartVariable = "RUN_TEST_HEART"

// beatEvery is the time between two beats.
const beatEvery = 4 * time.Millisecond

// monotonic is the time by the clock that all processes share.
func monotonic() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		panic(err)
	}
	return time.Duration(t.Nano())
}

// relatives of the command: a child in its process group; one with a session of its own; and one in another session whose parent has
// ended.
var relatives = []string{"command", "member", "session", "orphan"}

// heart beats until it is killed. It takes no notice of signals that ask it to end, and has children that do the same.
func heart(dir, name string) {
	signal.Notify(make(chan os.Signal, 1), unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGPIPE)
	switch name {
	case "command":
		bear("member", nil)
		bear("session", &syscall.SysProcAttr{Setsid: true})
		bear("parent", &syscall.SysProcAttr{Setsid: true})
	case "parent":
		bear("orphan", &syscall.SysProcAttr{Setsid: true})
		os.Exit(0)
	}
	file, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		os.Exit(1)
	}
	for {
		var beat [8]byte
		binary.LittleEndian.PutUint64(beat[:], uint64(monotonic()))
		if _, err := file.Write(beat[:]); err != nil {
			os.Exit(1)
		}
		time.Sleep(beatEvery)
	}
}

// bear starts a relative.
func bear(name string, attributes *syscall.SysProcAttr) {
	child := exec.Command("/proc/self/exe", name)
	child.SysProcAttr = attributes
	if err := child.Start(); err != nil {
		os.Exit(1)
	}
	go func() { _ = child.Wait() }()
}

// family is a command with its relatives, seen from outside.
type family struct {
	t   *testing.T
	dir string
}

// lastBeats are the last heartbeats of those that have beaten.
func (f *family) lastBeats() map[string]time.Duration {
	last := map[string]time.Duration{}
	for _, name := range relatives {
		b, err := os.ReadFile(filepath.Join(f.dir, name))
		if n := len(b) / 8 * 8; err == nil && n > 0 {
			last[name] = time.Duration(binary.LittleEndian.Uint64(b[n-8:]))
		}
	}
	return last
}

// awaitBeats returns when all hearts beat.
func (f *family) awaitBeats() {
	f.t.Helper()
	eventually(f.t, "all hearts beat", func() bool { return len(f.lastBeats()) == len(relatives) })
}

// late says whose last heartbeat, after some more time in which there could be others, is not before a moment.
func (f *family) late(moment time.Duration) string {
	time.Sleep(20 * beatEvery)
	var late []string
	for name, last := range f.lastBeats() {
		if last >= moment {
			late = append(late, fmt.Sprintf("the %s by %v", name, last-moment))
		}
	}
	return strings.Join(late, ", ")
}

// gap is how long before a moment the last heartbeat was.
func (f *family) gap(moment time.Duration) time.Duration {
	least := time.Duration(1<<63 - 1)
	for _, last := range f.lastBeats() {
		least = min(least, moment-last)
	}
	return least
}
