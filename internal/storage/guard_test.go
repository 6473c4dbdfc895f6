package storage

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/sys/unix"
)

// faulty stands before a raft.InmemStore and fails or blocks on demand.
type faulty struct {
	*raft.InmemStore
	fail  error
	block chan struct{} // when not nil, writes wait until it is closed
	calls int
}

func (f *faulty) write() error {
	f.calls++
	if f.block != nil {
		<-f.block
	}
	return f.fail
}

func (f *faulty) StoreLogs(l []*raft.Log) error {
	return errors.Join(f.write(), f.InmemStore.StoreLogs(l))
}
func (f *faulty) DeleteRange(lo, hi uint64) error    { return f.write() }
func (f *faulty) Set(k, v []byte) error              { return f.write() }
func (f *faulty) SetUint64(k []byte, v uint64) error { return f.write() }

// An errorBook keeps what Fatal was called with.
type errorBook struct {
	mu   sync.Mutex // guards errs
	errs []error
}

func (b *errorBook) add(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.errs = append(b.errs, err)
}

func (b *errorBook) all() []error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.errs)
}

// newFaulty returns a Store over f and what its Fatal was called with.
func newFaulty(f *faulty, timeout time.Duration) (*Store, *errorBook) {
	fatal := new(errorBook)
	o := Options{HangTimeout: timeout, Fatal: fatal.add}.withDefaults()
	s := OpenVolatile(o)
	s.log.in, s.stable.in = f, f
	return s, fatal
}

// writes are all ways to write.
func writes(s *Store) map[string]func() error {
	return map[string]func() error{
		"append":   func() error { return s.Log().StoreLog(entry(1)) },
		"truncate": func() error { return s.Log().DeleteRange(1, 1) },
		"term":     func() error { return s.Stable().SetUint64([]byte("t"), 1) },
		"vote":     func() error { return s.Stable().Set([]byte("v"), []byte("x")) },
	}
}

// The first failed write calls Fatal before it returns, and no store takes a write after it.
func TestFailStop(t *testing.T) {
	for name := range writes(OpenVolatile(Options{})) {
		f := &faulty{InmemStore: raft.NewInmemStore(), fail: unix.EIO}
		s, fatal := newFaulty(f, time.Second)
		err := writes(s)[name]()
		var failed *FailedError
		if !errors.As(err, &failed) || !errors.Is(err, unix.EIO) || failed.Op == "" {
			t.Fatalf("%s: %v", name, err)
		}
		if len(fatal.all()) != 1 || !errors.Is(fatal.all()[0], unix.EIO) {
			t.Fatalf("%s: Fatal got %v", name, fatal.all())
		}
		f.fail = nil // the disk is well again, which must not matter
		for later, write := range writes(s) {
			if err := write(); !errors.As(err, &failed) {
				t.Errorf("%s after %s: %v", later, name, err)
			}
		}
		if f.calls != 1 || len(fatal.all()) != 1 {
			t.Errorf("%s: %d writes, Fatal called %d times", name, f.calls, len(fatal.all()))
		}
		if s.Err() == nil {
			t.Errorf("%s: Err is nil", name)
		}
	}
}

func TestDefaultFatalPanics(t *testing.T) {
	s := OpenVolatile(Options{})
	s.log.in = &faulty{InmemStore: raft.NewInmemStore(), fail: unix.EIO}
	defer func() {
		if err, ok := recover().(error); !ok || !errors.Is(err, unix.EIO) {
			t.Fatalf("panic with %v", err)
		}
	}()
	_ = s.Log().StoreLog(entry(1))
	t.Fatal("it went on")
}

func TestMissingEntryIsNoFailure(t *testing.T) {
	s, fatal := newFaulty(&faulty{InmemStore: raft.NewInmemStore()}, time.Second)
	var l raft.Log
	if err := s.Log().GetLog(5, &l); !errors.Is(err, raft.ErrLogNotFound) || len(fatal.all()) != 0 {
		t.Fatal(err, fatal.all())
	}
}

// swapped is a log whose entries are in each other's place.
type swapped struct{ raft.LogStore }

func (s swapped) GetLog(i uint64, l *raft.Log) error { return s.LogStore.GetLog(i^1, l) }

func TestEntryInAnothersPlace(t *testing.T) {
	s, fatal := newFaulty(&faulty{InmemStore: raft.NewInmemStore()}, time.Second)
	fill(t, s, 2, 3, 1)
	s.log.in = swapped{s.log.in}
	var l raft.Log
	var c *CorruptError
	if err := s.Log().GetLog(2, &l); !errors.As(err, &c) || len(fatal.all()) != 1 {
		t.Fatal(err, fatal.all())
	}
}

// A write that hangs is noticed while it hangs, and not acknowledged when it comes back.
func TestHangingDisk(t *testing.T) {
	for name := range writes(OpenVolatile(Options{})) {
		synctest.Test(t, func(t *testing.T) {
			f := &faulty{InmemStore: raft.NewInmemStore(), block: make(chan struct{})}
			s, fatal := newFaulty(f, 10*time.Second)
			s.running.Go(func() { s.g.watch(s.o.HangTimeout, s.stop) })
			result := make(chan error, 1)
			go func() { result <- writes(s)[name]() }()

			time.Sleep(9 * time.Second)
			synctest.Wait()
			if d := s.Stalled(); d != 9*time.Second || len(fatal.all()) != 0 {
				t.Fatalf("%s: after 9 s: stalled for %v, Fatal got %v", name, d, fatal.all())
			}
			time.Sleep(2 * time.Second)
			synctest.Wait()
			if len(fatal.all()) != 1 || !errors.Is(fatal.all()[0], ErrHung) {
				t.Fatalf("%s: after 11 s: Fatal got %v", name, fatal.all())
			}
			close(f.block)
			if err := <-result; !errors.Is(err, ErrHung) {
				t.Fatalf("%s was acknowledged after all: %v", name, err)
			}
			if s.Stalled() != 0 {
				t.Fatal("still stalled")
			}
			mustClose(t, s)
		})
	}
}

// Many short writes in a row are no hang.
func TestSlowDiskIsNoHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, fatal := newFaulty(&faulty{InmemStore: raft.NewInmemStore()}, time.Second)
		s.running.Go(func() { s.g.watch(s.o.HangTimeout, s.stop) })
		for range 10 {
			n, err := s.g.begin("x")
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(900 * time.Millisecond)
			if err := s.g.end(n, nil); err != nil {
				t.Fatal(err)
			}
		}
		if len(fatal.all()) != 0 {
			t.Fatal(fatal.all())
		}
		mustClose(t, s)
	})
}

// Errors inside raft-wal reach the guard, also those of its background rotation, which it only logs.
func TestFailedRotation(t *testing.T) {
	var fatal atomic.Int32
	o := options(t, t.TempDir())
	o.Fatal = func(err error) { fatal.Add(1) }
	s := mustOpen(t, o)
	if err := os.RemoveAll(s.dir.reserve()); err != nil { // where new segments come from
		t.Fatal(err)
	}
	var err error
	for i := uint64(1); err == nil && i < 1000; i++ {
		err = s.Log().StoreLog(entry(i))
	}
	var failed *FailedError
	if !errors.As(err, &failed) || !strings.Contains(failed.Op, "segment") || fatal.Load() != 1 {
		t.Fatalf("%v, Fatal called %d times", err, fatal.Load())
	}
	if err := s.Stable().SetUint64([]byte("t"), 1); err == nil {
		t.Fatal("the stable store went on")
	}
}

// Flipped bits under a running process are found when the entry is read.
func TestGetLogVerifies(t *testing.T) {
	var fatal []error
	o := options(t, t.TempDir())
	o.Fatal = func(err error) { fatal = append(fatal, err) }
	s := mustOpen(t, o)
	fill(t, s, 1, 20, 3)
	path, _, scan := tailOf(t, o.Dir)
	flip(t, path, int(scan.offsets[6])+100, 1)
	var l raft.Log
	var c *CorruptError
	if err := s.Log().GetLog(7, &l); !errors.As(err, &c) || len(fatal) != 1 {
		t.Fatal(err, fatal)
	}
	if err := s.Log().GetLog(8, &l); err != nil {
		t.Fatal("an intact entry can't be read:", err)
	}
	if err := s.Log().StoreLog(entry(21)); err == nil {
		t.Fatal("it goes on writing")
	}
}

// A snapshot that can't be read any more stops the Store; one that is not there doesn't.
func TestOpenSnapshotVerifies(t *testing.T) {
	var fatal []error
	o := options(t, t.TempDir())
	o.Fatal = func(err error) { fatal = append(fatal, err) }
	s := mustOpen(t, o)
	id := snapshot(t, s, 300, []byte("state"))
	if _, _, err := s.Snapshots().Open("1-2-3"); err == nil || len(fatal) != 0 {
		t.Fatal(err, fatal)
	}
	flip(t, filepath.Join(s.dir.snapshots(), id, stateFile), 1, 1)
	var c *CorruptError
	if _, _, err := s.Snapshots().Open(id); !errors.As(err, &c) || len(fatal) != 1 {
		t.Fatal(err, fatal)
	}
}

// A store that has failed leaves no marker of a clean shutdown.
func TestNoMarkerAfterFailure(t *testing.T) {
	o := options(t, t.TempDir())
	o.Fatal = func(error) {}
	s := mustOpen(t, o)
	fill(t, s, 1, 5, 1)
	_ = s.g.fail("test", unix.EIO)
	_ = s.Close()
	if ok, err := exists(s.dir.marker()); ok || err != nil {
		t.Fatal("there is a marker")
	}
	mustOpen(t, options(t, o.Dir))
}

// The log calls an error "error" and says where a line comes from as "component", as all other rooms do.
func TestLogAttributes(t *testing.T) {
	var book logBook
	g := newGuard(Options{Logger: book.logger(), Fatal: func(error) {}})
	_ = g.fail("append", unix.EIO)
	book.want(t, `error="storage failed: append: input/output error"`)
	hclogTo(book.logger(), "log").Warn("x")
	book.want(t, "component=log")
}
