package storage

import (
	"errors"
	"fmt"
	"os"

	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/segment"
	"golang.org/x/sys/unix"
)

// Open opens the data directory o.Dir, or makes it. It returns ErrLocked (wrapped) if another process has it open,
// ErrNewer (wrapped) if a newer version has written it, a *CorruptError if there is something in it that no crash
// explains, a *FailedError if a write or sync failed or there is no space left, and otherwise the file system's error.
//
// It reads and verifies everything in the directory, which takes about as long as reading it, and logs what it is at when
// that takes longer than 2 s. A single write or sync that takes longer than HangTimeout ends Open with a *FailedError of
// ErrHung; the directory then stays locked until that comes back, or the process ends.
func Open(o Options) (*Store, error) {
	o = o.withDefaults()
	g := newQuietGuard()
	s, err := supervise(o, g, func() (*Store, error) { return open(o, g) })
	if err != nil {
		return nil, startFailure(o.Dir, g, err)
	}
	s.start()
	return s, nil
}

// startFailure makes failures of the disk known as such. What failed first counts: what came after it may hide it.
func startFailure(dir string, g *guard, err error) error {
	var f *FailedError
	var c *CorruptError
	if first := g.err(); first != nil && !errors.As(err, &f) {
		err = first
	}
	switch {
	case errors.Is(err, ErrHung), errors.As(err, &c):
		return err
	case noSpace(err):
		return &FailedError{Op: "open the data directory", Err: fmt.Errorf(
			"no space is left on the file system of %s; make room there, without touching the directory, and start again (%w)", dir, err)}
	case errors.Is(err, unix.EIO):
		return failed("open the data directory", err)
	}
	return err
}

// open does what Open does, up to the background work.
func open(o Options, g *guard) (*Store, error) {
	dir := layout(o.Dir)
	if o.Name != "" && !validName(o.Name) {
		return nil, fmt.Errorf("%q cannot be the name of a node: 1 to %d letters, digits, dashes and underscores", o.Name, maxName)
	}
	if err := dir.prepare(o.Existing, g); err != nil { // before the first change to a directory that may not be ours
		return nil, err
	}
	if err := tighten(o.Dir); err != nil {
		return nil, err
	}
	lock, err := lockDir(o.Dir, dir.lock())
	if err != nil {
		return nil, err
	}
	s, err := openLocked(o, dir, g)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	s.lock = lock
	if err := s.space.look(g); err != nil && !noSpace(err) { // without space, the Store is full, and open
		return nil, errors.Join(g.fail("prepare a log segment", err), s.Close())
	}
	return s, nil
}

// openLocked opens a directory that no other process uses.
func openLocked(o Options, dir layout, g *guard) (*Store, error) {
	id, err := identify(dir, o.Name, g)
	if err != nil {
		return nil, err
	}
	total, _, err := statfs(o.Dir)
	if err != nil {
		return nil, err
	}
	o = o.scaled(total)
	s := &Store{o: o, id: id, dir: dir, g: g, stop: make(chan struct{})}
	meta, healed, err := openMeta(dir.meta(), id.node, s.g)
	if err != nil {
		return nil, err
	}
	if healed {
		o.Logger.Warn("one of the two copies in the meta file was unfinished or damaged, and was written again", "file", dir.meta())
	}
	if err := s.openParts(meta); err != nil {
		return nil, errors.Join(err, meta.Close())
	}
	return s, nil
}

// identify reads the format file, or makes it in a fresh directory.
func identify(dir layout, name string, g *guard) (identity, error) {
	fresh, err := dir.fresh()
	if err != nil {
		return identity{}, err
	}
	if fresh {
		if name == "" {
			name = defaultName()
		}
		return dir.initialize(g, name)
	}
	id, err := readIdentity(dir.format())
	if err != nil {
		return id, err
	}
	if err := checkName(name, id.name); err != nil {
		return id, fmt.Errorf("%s: %w", dir, err)
	}
	return id, dir.complete(g)
}

// openParts verifies the log and the snapshots and opens them.
func (s *Store) openParts(meta *metaFile) error {
	pool, err := openPool(s.dir.reserve(), int64(s.o.SegmentSize), reserveSegments)
	if err != nil {
		return err
	}
	s.space = newSpace(s.o, pool, &s.full)
	if err := s.verify(meta); err != nil {
		return err
	}
	if err := removeDurably(s.g, s.dir.marker()); err != nil {
		return err
	}
	if err := s.openLog(meta, pool); err != nil {
		return err
	}
	return s.dropStale()
}

// openLog opens raft-wal on what has been verified.
func (s *Store) openLog(meta *metaFile, pool *pool) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = corrupt(s.dir.log(), "the log can't be opened: %v", r)
		}
	}()
	files := segment.NewFiler(s.dir.log(), &segmentDir{pool: pool, meta: meta, g: s.g})
	w, err := wal.Open(s.dir.log(),
		wal.WithCodec(checkedCodec{}),
		wal.WithMetaStore(meta),
		wal.WithSegmentFiler(segmentFiler{files}),
		wal.WithSegmentSize(s.o.SegmentSize),
		wal.WithLogger(hclogTo(s.o.Logger, "log")))
	switch {
	case err != nil && s.g.err() != nil:
		return s.g.err()
	case errors.Is(err, wal.ErrCorrupt), errors.Is(err, os.ErrNotExist):
		return corrupt(s.dir.log(), "%v", err)
	case err != nil:
		return err
	}
	s.wal = w
	s.log = &logStore{in: w, g: s.g, path: s.dir.log(), stored: s.space.wrote}
	s.stable = &stableStore{in: w, g: s.g}
	return nil
}

// start begins the background work of an open directory.
func (s *Store) start() {
	s.g.arm(s.o)
	s.running.Go(func() { s.g.watch(s.o.HangTimeout, s.stop) })
	s.running.Go(func() { s.space.run(s.stop) })
}
