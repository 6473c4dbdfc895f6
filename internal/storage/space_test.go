package storage

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/sys/unix"
)

// mountTmpfs mounts a file system of size bytes, or skips the test where that is not permitted.
func mountTmpfs(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("needs the right to mount a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fillDisk writes a file at path until only left bytes are free.
func fillDisk(t *testing.T, path string, left int64) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	_, free, err := statfs(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Fallocate(int(f.Fd()), 0, 0, free-left); err != nil {
		t.Fatal(err)
	}
}

// within waits until ok holds, at most d.
func within(t *testing.T, d time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(d)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("not within %v: %s", d, what)
		case <-tick.C:
		}
	}
}

// small is an entry such as a renewal makes.
func small(index uint64) *raft.Log {
	return &raft.Log{Index: index, Term: 1, Data: make([]byte, 2000)}
}

func TestDiskFull(t *testing.T) {
	disk := mountTmpfs(t, "64m")
	dir := filepath.Join(disk, "data")
	var book logBook
	o := Options{Dir: dir, Logger: book.logger(), Fatal: func(err error) { t.Errorf("Fatal: %v", err) }}
	s := mustOpen(t, o)
	within(t, time.Second, "a filled reserve", func() bool { return s.space.pool.missing() == 0 })
	if s.Full() {
		t.Fatal("full from the start")
	}

	ballast := filepath.Join(disk, "ballast")
	fillDisk(t, ballast, 300<<10)
	within(t, time.Second, "Full", s.Full)
	book.want(t, "nearly full")

	before := len(segments(t, dir))
	last := uint64(0)
	for len(segments(t, dir)) < before+reserveSegments { // lives on the reserve
		last++
		if err := s.Log().StoreLog(small(last)); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d entries of 2 kB were appended while the disk was full", last)
	if err := s.Stable().SetUint64([]byte("CurrentTerm"), 9); err != nil {
		t.Fatal(err)
	}
	if !s.Full() {
		t.Fatal("no longer full")
	}
	snapshotOnFullDisk(t, s)

	mustClose(t, s) // a restart on the full disk
	s = mustOpen(t, o)
	if !s.Full() {
		t.Fatal("not full after a restart")
	}
	last++
	if err := s.Log().StoreLog(small(last)); err != nil {
		t.Fatal(err)
	}

	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	within(t, time.Second, "no longer Full", func() bool { return !s.Full() })
	if s.space.pool.missing() != 0 {
		t.Fatal("the reserve was not taken back")
	}
	book.want(t, "space on the disk again")
	if n := book.count("nearly full"); n != 2 { // once in each run
		t.Fatalf("said %d times that the disk is full", n)
	}
}

// snapshotOnFullDisk checks that a snapshot that does not fit fails and leaves nothing, and one that fits works.
func snapshotOnFullDisk(t *testing.T, s *Store) {
	t.Helper()
	_, before, err := statfs(string(s.dir))
	if err != nil {
		t.Fatal(err)
	}
	_, trans := raft.NewInmemTransport("n")
	sink, err := s.Snapshots().Create(1, 10, 1, raft.Configuration{}, 1, trans)
	if err != nil {
		t.Fatal(err)
	}
	_, err = sink.Write(make([]byte, 2<<20))
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("a snapshot larger than the disk: %v", err)
	}
	if err := sink.Cancel(); err != nil {
		t.Fatal(err)
	}
	if s.Err() != nil {
		t.Fatal(s.Err())
	}
	if _, after, err := statfs(string(s.dir)); err != nil || after < before-8<<10 {
		t.Fatalf("%d bytes were free before and %d are now, %v", before, after, err)
	}
	snapshot(t, s, 10, []byte("small"))
}

// When the reserve is used up too, the next write fails, the process ends, and all that was acknowledged is there afterwards.
func TestDiskFullToTheEnd(t *testing.T) {
	disk := mountTmpfs(t, "24m")
	o := options(t, filepath.Join(disk, "data"))
	o.SegmentSize = 1 << 20
	var fatal []error
	o.Fatal = func(err error) { fatal = append(fatal, err) }
	s := mustOpen(t, o)
	within(t, time.Second, "a filled reserve", func() bool { return s.space.pool.missing() == 0 })
	ballast := filepath.Join(disk, "ballast")
	fillDisk(t, ballast, 0)
	var last uint64
	var err error
	for last < 10000 {
		if err = s.Log().StoreLog(entry(last + 1)); err != nil {
			break
		}
		last++
	}
	if !errors.Is(err, unix.ENOSPC) || len(fatal) != 1 || last < 3000 {
		t.Fatalf("after %d entries: %v; Fatal got %v", last, err, fatal)
	}
	_ = s.Close()
	if s, err := Open(o); !errors.Is(err, unix.ENOSPC) || len(fatal) != 1 {
		t.Fatalf("start without any space: %v, %v; Fatal got %v", s, err, fatal)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, options(t, o.Dir))
	// The entry whose write failed may be there: what failed may have been something after it, such as the next segment.
	end := lastIndex(t, s)
	if end != last && end != last+1 {
		t.Errorf("the log ends at %d, and %d entries were acknowledged", end, last)
	}
	checkLog(t, s, 1, end)
}

func lastIndex(t *testing.T, s *Store) uint64 {
	t.Helper()
	last, err := s.Log().LastIndex()
	if err != nil {
		t.Fatal(err)
	}
	return last
}

func TestScaling(t *testing.T) {
	for _, c := range []struct {
		total, minFree int64
		segment        int
	}{
		{100 << 30, 32 << 20, 16 << 20},
		{64 << 20, 16 << 20, 4 << 20},
		{8 << 20, 2 << 20, 1 << 20},
	} {
		o := Options{}.withDefaults().scaled(c.total)
		if o.MinFree != c.minFree || o.SegmentSize != c.segment {
			t.Errorf("%d: %d, %d", c.total, o.MinFree, o.SegmentSize)
		}
	}
}

// A prepared segment that is not zero, or has another size, is not used.
func TestUnusableReserve(t *testing.T) {
	o := options(t, t.TempDir())
	s := mustOpen(t, o)
	within(t, time.Second, "a filled reserve", func() bool { return s.space.pool.missing() == 0 })
	mustClose(t, s)
	spares, err := filepath.Glob(filepath.Join(s.dir.reserve(), "spare-*"))
	if err != nil || len(spares) != reserveSegments {
		t.Fatal(spares, err)
	}
	flip(t, spares[0], 5000, 2)
	edit(t, spares[1], func(b []byte) []byte { return b[1:] })
	s = mustOpen(t, o)
	fill(t, s, 1, 500, 9)
	dir := crashed(t, s)
	s = mustOpen(t, options(t, dir))
	checkLog(t, s, 1, 500)
}
