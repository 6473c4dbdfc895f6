package client

import (
	"syscall"
	"time"
	"unsafe"
)

// The numbers of the clocks, from linux/time.h.
const (
	clockMonotonic = 1
	clockBoottime  = 7
)

// asleep returns for how long the machine has been suspended since it was booted: the boot clock counts that time, the
// monotonic one does not. It errs by the moment between two readings, and is 0 where there is no boot clock.
func asleep() time.Duration {
	boot, ok := readClock(clockBoottime)
	if !ok {
		return 0
	}
	// Read second, so that a pause between the readings makes the difference too small rather than too large: what was sent
	// is never taken to have been sent later than it was.
	monotonic, ok := readClock(clockMonotonic)
	if !ok || boot < monotonic {
		return 0
	}
	return boot - monotonic
}

func readClock(id uintptr) (time.Duration, bool) {
	var at syscall.Timespec
	_, _, errno := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, id, uintptr(unsafe.Pointer(&at)), 0)
	return time.Duration(at.Nano()), errno == 0
}
