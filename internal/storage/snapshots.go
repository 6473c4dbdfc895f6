package storage

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"
	"golang.org/x/sys/unix"
)

// snapshotStore is the raft.SnapshotStore of a Store: raft.FileSnapshotStore, with private files, a checksum over the
// metadata too, and the guard before each write.
//
// A snapshot that does not fit on the disk is given up and no failure of the Store: nothing depends on it yet, and its
// remains are removed.
type snapshotStore struct {
	in     raft.SnapshotStore
	g      *guard
	dir    string
	logger *slog.Logger

	mu     sync.Mutex      // guards active, and is held while a snapshot begins
	active map[string]bool // directories of snapshots being written
}

var _ raft.SnapshotStore = (*snapshotStore)(nil)

// openSnapshots opens the snapshots in dir and removes those that a crash has left unfinished.
func openSnapshots(dir string, logger *slog.Logger, g *guard) (*snapshotStore, error) {
	s := &snapshotStore{g: g, dir: dir, logger: logger, active: make(map[string]bool)}
	if err := s.sweep(); err != nil {
		return nil, err
	}
	var err error
	s.in, err = raft.NewFileSnapshotStoreWithLogger(filepath.Dir(dir), retainedSnapshots, hclogTo(logger, "snapshots"))
	return s, err
}

// sweep removes what unfinished snapshots have left. s.mu must be held, unless nobody else knows s.
func (s *snapshotStore) sweep() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(s.dir, e.Name())
		if strings.HasSuffix(path, tmpSuffix) && !s.active[path] {
			err = errors.Join(err, os.RemoveAll(path))
		}
	}
	return err
}

// Create begins a snapshot.
func (s *snapshotStore) Create(version raft.SnapshotVersion, index, term uint64, configuration raft.Configuration,
	configurationIndex uint64, trans raft.Transport,
) (raft.SnapshotSink, error) {
	n, err := s.g.begin("create a snapshot")
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	in, err := s.in.Create(version, index, term, configuration, configurationIndex, trans)
	if err != nil {
		_ = s.sweep() // the error of the snapshot is the one to tell
		return nil, s.end(n, err)
	}
	sink := &snapshotSink{in: in, store: s, tmp: filepath.Join(s.dir, in.ID()+tmpSuffix)}
	if err := secureSnapshot(s.g, sink.tmp); err != nil {
		sink.remove()
		return nil, s.end(n, err)
	}
	sink.flow = startFlow(filepath.Join(sink.tmp, stateFile))
	s.active[sink.tmp] = true
	return sink, s.end(n, nil)
}

// finished notes that the snapshot in tmp is no longer being written.
func (s *snapshotStore) finished(tmp string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.active, tmp)
}

// end ends flight n of the guard. Lack of space is no failure of the Store.
func (s *snapshotStore) end(n int, err error) error {
	if noSpace(err) {
		s.g.land(n)
		s.logger.Warn("there is no space for a snapshot", "error", err)
		return err
	}
	return s.g.end(n, err)
}

func noSpace(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// List returns the snapshots, the newest first.
func (s *snapshotStore) List() ([]*raft.SnapshotMeta, error) { return s.in.List() }

// Open returns a snapshot's metadata and content, after its checksum was compared.
func (s *snapshotStore) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	if _, err := readSnapshotMeta(s.dir, id); err != nil {
		return nil, nil, s.unreadable(id, err)
	}
	meta, r, err := s.in.Open(id)
	if err != nil {
		return nil, nil, s.unreadable(id, err)
	}
	return meta, r, nil
}

// unreadable fails the Store for a snapshot that can't be read, unless it simply is not there.
func (s *snapshotStore) unreadable(id string, err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return err
	}
	return s.g.latch(corrupt(filepath.Join(s.dir, id), "the snapshot can't be read: %v", err))
}

// snapshotSink is a snapshot being written.
type snapshotSink struct {
	in    raft.SnapshotSink
	store *snapshotStore
	tmp   string // its directory until it is closed
	done  atomic.Bool
	flow  *flow
}

func (s *snapshotSink) ID() string { return s.in.ID() }

func (s *snapshotSink) Write(p []byte) (int, error) {
	n, err := s.store.g.begin("write a snapshot")
	if err != nil {
		return 0, err
	}
	written, err := s.in.Write(p)
	s.flow.wrote(written)
	return written, s.store.end(n, err)
}

// Close finishes the snapshot: it is durable and in the list when Close returns nil.
func (s *snapshotSink) Close() error {
	if s.done.Swap(true) {
		return nil
	}
	n, err := s.store.g.begin("finish a snapshot")
	if err != nil {
		return err
	}
	defer s.store.finished(s.tmp)
	s.flow.end()
	if err := s.in.Close(); err != nil {
		s.remove()
		return s.store.end(n, err)
	}
	err = sealSnapshot(s.store.g, s.store.dir, s.ID())
	if noSpace(err) {
		err = nil // the next start seals it
	}
	return s.store.end(n, err)
}

// Cancel gives the snapshot up.
func (s *snapshotSink) Cancel() error {
	if s.done.Swap(true) {
		return nil
	}
	n, err := s.store.g.begin("give a snapshot up")
	if err != nil {
		return err
	}
	defer s.store.finished(s.tmp)
	s.flow.end()
	s.remove()
	return s.store.end(n, nil)
}

// remove removes what was written. The inner sink can't be relied on for that: after a failed write it leaves both the
// directory and the open file, so the file is emptied first to free its space.
func (s *snapshotSink) remove() {
	_ = os.Truncate(filepath.Join(s.tmp, stateFile), 0)
	_ = s.in.Cancel()
	if err := os.RemoveAll(s.tmp); err != nil {
		s.store.logger.Warn("can't remove an unfinished snapshot", "error", err)
	}
}
