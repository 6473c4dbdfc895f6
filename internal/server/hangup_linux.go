package server

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// seesHangups: the system tells of an end of the connection although data is unread before it.
const seesHangups = true

// hungUp tells whether the other side has closed the connection or its sending half, or the connection is broken. Where
// there is nothing to ask (nil) it has: nobody would ever notice.
func hungUp(raw syscall.RawConn) bool {
	return raw == nil || poll(raw, unix.POLLRDHUP)
}

// wasReset tells whether the connection is broken: nothing can be sent over it any more.
func wasReset(raw syscall.RawConn) bool { return poll(raw, 0) }

// poll tells whether one of the events is there, or an error or a hang-up of both sides, which need not be asked for.
func poll(raw syscall.RawConn, events int16) bool {
	gone := false
	err := raw.Control(func(fd uintptr) {
		fds := [1]unix.PollFd{{Fd: int32(fd), Events: events}}
		n, err := unix.Poll(fds[:], 0)
		for errors.Is(err, unix.EINTR) {
			n, err = unix.Poll(fds[:], 0)
		}
		gone = n > 0
	})
	return gone || err != nil // an error: this side has closed it
}
