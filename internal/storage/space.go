package storage

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// space watches the free space and keeps the pool of prepared segments filled.
type space struct {
	dir     string
	minFree int64
	segment int64 // bytes that a prepared segment takes
	pool    *pool
	logger  *slog.Logger
	full    *atomic.Bool
	writes  atomic.Uint64
	wake    chan struct{}

	mu     sync.Mutex // held during a look
	failed bool       // the last statfs failed, which was logged
}

func newSpace(o Options, p *pool, full *atomic.Bool) *space {
	return &space{
		dir: o.Dir, minFree: o.MinFree, segment: roomFor(p.size), pool: p,
		logger: o.Logger, full: full, wake: make(chan struct{}, 1),
	}
}

// statfs returns the size of the file system of path and what we may still use of it, in bytes.
func statfs(path string) (total, free int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, 0, err
	}
	return int64(st.Blocks) * st.Bsize, int64(st.Bavail) * st.Bsize, nil
}

// run looks at the space, and again, until stop is closed.
func (s *space) run(stop <-chan struct{}) {
	t := time.NewTicker(spaceInterval)
	defer t.Stop()
	for {
		_ = s.look(nil) // it has said so itself
		select {
		case <-stop:
			return
		case <-t.C:
		case <-s.wake:
		}
	}
}

// wrote notes one write and wakes run now and then. It does not block.
func (s *space) wrote() {
	if s.writes.Add(1)%spaceEveryWrites != 0 {
		return
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// look brings full and the pool up to date with the free space. The error is that of preparing a segment; g watches over it.
func (s *space) look(g *guard) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	free, ok := s.free()
	if !ok {
		return nil
	}
	for s.pool.missing() > 0 && s.mayRefill(free) {
		if err := s.pool.refill(g); err != nil {
			s.logger.Warn("can't prepare a log segment", "error", err)
			s.setFull(true, free)
			return err
		}
		if free, ok = s.free(); !ok {
			return nil
		}
	}
	s.decide(free)
	return nil
}

// mayRefill says whether there is room for one more prepared segment. On a disk that is full, what comes free is left alone
// until there is clearly enough.
func (s *space) mayRefill(free int64) bool {
	if s.full.Load() {
		return free-s.segment >= s.enough()
	}
	return free >= s.segment+s.segment/4
}

// enough is the free space at which a full disk is no longer full.
func (s *space) enough() int64 { return s.minFree + s.minFree/4 }

// decide sets full by the free space that is left beside the pool.
func (s *space) decide(free int64) {
	switch {
	case free < s.minFree || s.pool.missing() > 0:
		s.setFull(true, free)
	case free >= s.enough():
		s.setFull(false, free)
	}
}

// setFull changes full and says so.
func (s *space) setFull(full bool, free int64) {
	if s.full.Swap(full) == full {
		return
	}
	if full {
		s.logger.Error("the disk is nearly full: what needs more space is refused", "dir", s.dir, "free", free, "needed", s.minFree)
		return
	}
	s.logger.Info("there is space on the disk again", "dir", s.dir, "free", free)
}

// free returns the free bytes; not ok when they can't be known.
func (s *space) free() (free int64, ok bool) {
	_, free, err := statfs(s.dir)
	if err != nil && !s.failed {
		s.logger.Warn("can't tell the free space", "dir", s.dir, "error", err)
	}
	s.failed = err != nil
	return free, err == nil
}
