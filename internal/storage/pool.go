package storage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// A pool keeps log segments ready, with all their blocks allocated. A rotation renames one into the log, so it needs no
// free space: the pool is the reserve that the log lives on while the disk is full.
// Safe for concurrent use.
type pool struct {
	dir  string // the directory of prepared segments
	size int64  // bytes of a segment as raft-wal asks for it
	want int    // how many to keep

	mu    sync.Mutex // guards ready and seq
	ready []string
	seq   int
}

// roomFor is what is allocated for a segment of size bytes: raft-wal ends a segment with the batch that goes over its
// size, and an index.
func roomFor(size int64) int64 { return size + size/8 + 256<<10 }

// openPool takes over the prepared segments in dir, which must exist. Those of another size are removed.
func openPool(dir string, size int64, want int) (*pool, error) {
	p := &pool{dir: dir, size: size, want: want}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if p.usable(path, e) && len(p.ready) < want {
			p.ready = append(p.ready, path)
		} else if err := os.RemoveAll(path); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// usable says whether the file at path is a finished, unused segment of our size.
func (p *pool) usable(path string, e os.DirEntry) bool {
	if !e.Type().IsRegular() || strings.HasSuffix(path, tmpSuffix) {
		return false
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return false
	}
	if n := 0; st.Size == roomFor(p.size) {
		if _, err := fmt.Sscanf(e.Name(), "spare-%d", &n); err == nil {
			p.seq = max(p.seq, n)
			return allZero(path)
		}
	}
	return false
}

// missing says how many segments the pool is short of.
func (p *pool) missing() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.want - len(p.ready)
}

// refill prepares one segment, watched by g.
func (p *pool) refill(g *guard) error {
	p.mu.Lock()
	p.seq++
	path := filepath.Join(p.dir, fmt.Sprintf("spare-%d", p.seq))
	p.mu.Unlock()

	f, err := prepare(g, path+tmpSuffix, roomFor(p.size))
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(path+tmpSuffix, path); err != nil {
		return err
	}
	if err := syncDir(g, p.dir); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ready = append(p.ready, path)
	return nil
}

// take puts a segment of size bytes at path and opens it: a prepared one, or, when there is none, a new one.
func (p *pool) take(g *guard, path string, size int64) (*os.File, error) {
	if size == p.size {
		if spare := p.pop(); spare != "" {
			return p.place(g, spare, path)
		}
	}
	tmp := filepath.Join(p.dir, filepath.Base(path)+tmpSuffix)
	f, err := prepare(g, tmp, roomFor(size))
	if err != nil {
		return nil, fmt.Errorf("make a log segment of %d bytes in %s: %w", roomFor(size), filepath.Dir(path), err)
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	return p.place(g, tmp, path)
}

// pop returns the path of a prepared segment and forgets it; "" when there is none.
func (p *pool) pop() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.ready) == 0 {
		return ""
	}
	path := p.ready[0]
	p.ready = p.ready[1:]
	return path
}

// place moves the prepared segment to path, which must be free, and opens it.
func (p *pool) place(g *guard, spare, path string) (*os.File, error) {
	if taken, err := exists(path); err != nil {
		return nil, err
	} else if taken {
		return nil, fmt.Errorf("%s exists already", path)
	}
	if err := os.Rename(spare, path); err != nil {
		return nil, err
	}
	if err := syncDir(g, filepath.Dir(path)); err != nil {
		return nil, err
	}
	return os.OpenFile(path, os.O_RDWR, fileMode)
}

// prepare makes a file of size zero bytes with all its blocks allocated, durable but for its directory entry. If that
// fails, nothing is left behind.
func prepare(g *guard, path string, size int64) (*os.File, error) {
	if err := os.RemoveAll(path); err != nil {
		return nil, err
	}
	f, err := createFile(path)
	if err != nil {
		return nil, err
	}
	if err := allocate(g, f, 0, size); err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(path))
	}
	return f, nil
}

// allocate fills f with zeros from offset from to offset to, durably. Written zeros, not only reserved blocks: the first write to
// reserved blocks has to change the file system's metadata, which makes each sync of an append dearer. In small steps, so that
// an append that is synced meanwhile does not have to wait for all of it.
func allocate(g *guard, f *os.File, from, to int64) error {
	op := "make room in " + f.Name()
	err := g.step(op, func() error {
		if err := unix.Fallocate(int(f.Fd()), 0, from, to-from); !errors.Is(err, unix.EOPNOTSUPP) {
			return err
		}
		return nil
	})
	for off := from; off < to && err == nil; off += allocateStep {
		err = g.step(op, func() error { return writeZeros(f, off, min(to, off+allocateStep)) })
	}
	if err != nil {
		return err
	}
	return g.step(op, f.Sync)
}

// writeZeros fills f with zeros from offset from to offset to.
func writeZeros(f *os.File, from, to int64) error {
	for off := from; off < to; off += int64(len(zeros)) {
		if _, err := f.WriteAt(zeros[:min(int64(len(zeros)), to-off)], off); err != nil {
			return err
		}
	}
	return fdatasync(f)
}

// allZero says whether the file at path can be read and holds nothing but zeros.
func allZero(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	buf := make([]byte, 256<<10)
	for {
		n, err := f.Read(buf)
		if !isZero(buf[:n]) {
			return false
		}
		if n == 0 || err != nil {
			return n == 0
		}
	}
}
