package storage

import (
	"errors"
	"fmt"
	"os"

	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/segment"
)

// Open opens the data directory o.Dir, or makes it. It returns ErrLocked (wrapped) if another process has it open, a
// *CorruptError if there is something in it that no crash explains, and otherwise the file system's error.
//
// It reads and verifies everything in the directory, which takes about as long as reading it.
func Open(o Options) (*Store, error) {
	o = o.withDefaults()
	dir := layout(o.Dir)
	if err := dir.create(); err != nil {
		return nil, fmt.Errorf("create the data directory: %w", err)
	}
	if _, err := dir.fresh(); err != nil { // before the first change to a directory that may not be ours
		return nil, err
	}
	if err := tighten(o.Dir); err != nil {
		return nil, err
	}
	lock, err := lockDir(o.Dir, dir.lock())
	if err != nil {
		return nil, err
	}
	s, err := openLocked(o, dir)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	s.lock = lock
	s.start()
	return s, nil
}

// openLocked opens a directory that no other process uses.
func openLocked(o Options, dir layout) (*Store, error) {
	id, err := identify(dir)
	if err != nil {
		return nil, err
	}
	total, _, err := statfs(o.Dir)
	if err != nil {
		return nil, err
	}
	o = o.scaled(total)
	s := &Store{o: o, id: id, dir: dir, g: newQuietGuard(), stop: make(chan struct{})}
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
func identify(dir layout) (identity, error) {
	fresh, err := dir.fresh()
	if err != nil {
		return identity{}, err
	}
	if fresh {
		return dir.initialize()
	}
	id, err := readIdentity(dir.format())
	if err != nil {
		return id, err
	}
	return id, dir.complete()
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
	if err := removeDurably(s.dir.marker()); err != nil {
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
	s.space.look()
	s.running.Go(func() { s.g.watch(s.o.HangTimeout, s.stop) })
	s.running.Go(func() { s.space.run(s.stop) })
}
