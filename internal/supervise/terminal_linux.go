package supervise

import (
	"math/bits"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// terminal is the controlling terminal of this process. A nil one has no foreground.
type terminal struct{ file *os.File }

// openTerminal returns nil if there is none.
func openTerminal() *terminal {
	fd, err := unix.Open("/dev/tty", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	return &terminal{os.NewFile(uintptr(fd), "/dev/tty")}
}

// foreground returns the process group that has the terminal, or 0.
func (t *terminal) foreground() int {
	if t == nil {
		return 0
	}
	group, err := unix.IoctlGetInt(int(t.file.Fd()), unix.TIOCGPGRP)
	if err != nil {
		return 0
	}
	return group
}

// give makes to the foreground group if from is it now.
func (t *terminal) give(from, to int) bool {
	if t == nil || from == 0 || t.foreground() != from {
		return false
	}
	given := false
	undisturbed(func() { given = unix.IoctlSetPointerInt(int(t.file.Fd()), unix.TIOCSPGRP, to) == nil })
	return given
}

func (t *terminal) close() {
	if t != nil {
		_ = t.file.Close()
	}
}

// undisturbed runs f on a thread that SIGTTOU does not reach: whoever has it blocked may set and write to the terminal also from
// the background. (Ignoring the signal would do as well, but the command would inherit that.)
func undisturbed(f func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var block, before unix.Sigset_t
	const word = bits.UintSize
	block.Val[(uint(unix.SIGTTOU)-1)/word] |= 1 << ((uint(unix.SIGTTOU) - 1) % word)
	if unix.PthreadSigmask(unix.SIG_BLOCK, &block, &before) != nil {
		return // f could be stopped, and this process with it
	}
	defer func() { _ = unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil) }()
	f()
}

// isAlone tells whether no other process is in this one's group, as the other parts of a pipeline are.
func isAlone() bool {
	all, err := processes()
	if err != nil {
		return false
	}
	self, group := os.Getpid(), unix.Getpgrp()
	for _, p := range all {
		if p.group == group && p.pid != self {
			return false
		}
	}
	return true
}
