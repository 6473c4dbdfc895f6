package server

import (
	"errors"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// watcher tells of hang-ups. It has an epoll instance of its own beside the runtime's, which cannot be asked for this: an end
// of the connection is told although data is unread before it, and nobody has to read, so that a client that waits costs
// no goroutine more. Waiting for the instance itself is left to the runtime, so that it costs no thread either.
type watcher struct {
	start sync.Once
	fd    int // of the instance; negative: there is none

	mu      sync.Mutex // guards what follows
	newest  uint64
	watched map[uint64]func()
}

// hangups serves the whole process, and never ends.
var hangups watcher

// watchHangup has gone called, once, when the other side closes the connection or its sending half, or has done so. It
// returns a name for the watch, which must be forgotten. There is one for a connection at a time. What cannot be watched is
// gone: nobody would ever notice.
func watchHangup(raw syscall.RawConn, gone func()) uint64 {
	hangups.start.Do(hangups.open)
	name := hangups.enter(gone)
	if raw == nil || hangups.fd < 0 || control(raw, func(fd int) error {
		e := unix.EpollEvent{Events: unix.EPOLLRDHUP | unix.EPOLLONESHOT, Fd: int32(name), Pad: int32(name >> 32)}
		return unix.EpollCtl(hangups.fd, unix.EPOLL_CTL_ADD, fd, &e)
	}) != nil {
		gone()
	}
	return name
}

// forgetHangup ends a watch. What it would have called may just be called.
func forgetHangup(raw syscall.RawConn, name uint64) {
	hangups.leave(name)
	if raw != nil && hangups.fd >= 0 {
		// A connection that this side has closed has left already.
		_ = control(raw, func(fd int) error { return unix.EpollCtl(hangups.fd, unix.EPOLL_CTL_DEL, fd, nil) })
	}
}

func control(raw syscall.RawConn, f func(fd int) error) error {
	var failed error
	err := raw.Control(func(fd uintptr) { failed = f(int(fd)) })
	return errors.Join(err, failed)
}

func (w *watcher) open() {
	w.watched = make(map[uint64]func())
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if w.fd = fd; err != nil {
		return
	}
	// A descriptor that does not block is one that the runtime waits for.
	_ = unix.SetNonblock(fd, true)
	raw, err := os.NewFile(uintptr(fd), "hang-ups").SyscallConn()
	if err != nil {
		_ = unix.Close(fd)
		w.fd = -1
		return
	}
	go w.run(raw)
}

func (w *watcher) enter(gone func()) uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.newest++
	w.watched[w.newest] = gone
	return w.newest
}

// leave forgets a watch and returns what it was to call; nil: it has been forgotten before.
func (w *watcher) leave(name uint64) (gone func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	gone = w.watched[name]
	delete(w.watched, name)
	return gone
}

func (w *watcher) run(raw syscall.RawConn) {
	var events [64]unix.EpollEvent
	for {
		n := 0
		err := raw.Read(func(fd uintptr) bool {
			n, _ = unix.EpollWait(int(fd), events[:], 0)
			return n > 0
		})
		if err != nil { // the runtime cannot wait for it
			n, _ = unix.EpollWait(w.fd, events[:], -1)
		}
		for i := range events[:max(n, 0)] {
			if gone := w.leave(uint64(uint32(events[i].Fd)) | uint64(uint32(events[i].Pad))<<32); gone != nil {
				gone()
			}
		}
	}
}
