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
	if raw == nil {
		return true
	}
	gone := false
	err := raw.Control(func(fd uintptr) {
		fds := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}} // POLLHUP and POLLERR need not be asked for
		n, err := unix.Poll(fds[:], 0)
		for errors.Is(err, unix.EINTR) {
			n, err = unix.Poll(fds[:], 0)
		}
		gone = n > 0
	})
	return gone || err != nil // an error: this side has closed it
}
