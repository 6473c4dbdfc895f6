package supervise

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// instant is a moment of CLOCK_BOOTTIME, in nanoseconds: the same for all processes of the machine, and counted also while the
// machine is suspended.
type instant int64

func now() instant {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		panic(fmt.Sprintf("there is no clock: %v", err)) // since Linux 2.6.39 there is
	}
	return instant(t.Nano())
}

func (i instant) add(d time.Duration) instant { return i + instant(d) }

// String is the moment as /proc/uptime tells it, in seconds, always 20 characters long.
func (i instant) String() string {
	return fmt.Sprintf("%010d.%09d", i/1e9, i%1e9)
}

// newTimer returns the descriptor of a timer of CLOCK_BOOTTIME, which can be read when it has gone off. Go's own timers stand still
// while the machine is suspended and would come too late by as much.
func newTimer() (int, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_BOOTTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return -1, fmt.Errorf("timerfd_create: %w", err)
	}
	return fd, nil
}

// setTimer makes the timer go off at that moment, at once if it has passed, and not at the one that was set before. 0: not at all.
func setTimer(fd int, at instant) error {
	spec := &unix.ItimerSpec{Value: unix.NsecToTimespec(int64(at))}
	if at < 0 {
		spec.Value = unix.NsecToTimespec(1)
	}
	return unix.TimerfdSettime(fd, unix.TFD_TIMER_ABSTIME, spec, nil)
}

// alarm is a timer that tells over a channel.
type alarm struct {
	C    <-chan struct{}
	file *os.File
	conn syscall.RawConn
}

func newAlarm() (*alarm, error) {
	fd, err := newTimer()
	if err != nil {
		return nil, err
	}
	c := make(chan struct{}, 1)
	a := &alarm{C: c, file: os.NewFile(uintptr(fd), "alarm")}
	if a.conn, err = a.file.SyscallConn(); err != nil {
		return nil, err
	}
	go func() {
		var expirations [8]byte
		for {
			if _, err := a.file.Read(expirations[:]); err != nil {
				return // it was closed
			}
			select {
			case c <- struct{}{}:
			default: // one is there already
			}
		}
	}()
	return a, nil
}

func (a *alarm) set(at instant) error {
	var failed error
	err := a.conn.Control(func(fd uintptr) { failed = setTimer(int(fd), at) })
	return errors.Join(err, failed)
}

func (a *alarm) close() { _ = a.file.Close() }
