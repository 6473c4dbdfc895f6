package storage

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// A Store is an open data directory, or its volatile stand-in. All methods are safe for concurrent use.
type Store struct {
	o   Options
	dir layout // empty for a volatile store
	g   *guard

	mu sync.Mutex // guards id
	id identity

	log    *logStore
	stable *stableStore
	snaps  raft.SnapshotStore

	full  atomic.Bool
	space *space // nil for a volatile store
	media Media  // in place of the directory; nil for any other store

	wal  closer // nil for a volatile store
	lock *os.File

	stale bool // the log ends before the newest snapshot; only used by Open

	stop    chan struct{} // closed by Close
	running sync.WaitGroup
	closed  sync.Once
}

// closer is the part of the log that Close needs.
type closer interface{ Close() error }

// Log returns the log. It implements raft.MonotonicLogStore.
func (s *Store) Log() raft.LogStore { return s.log }

// Stable returns the store of term and vote.
func (s *Store) Stable() raft.StableStore {
	if s.media != nil {
		return &mediaStable{s.stable, s.media}
	}
	return s.stable
}

// Snapshots returns the snapshots.
func (s *Store) Snapshots() raft.SnapshotStore { return s.snaps }

// ClusterID returns the 32 hexadecimal digits that all members of a cluster share.
func (s *Store) ClusterID() string { return s.identity().cluster }

// NodeID returns the 32 hexadecimal digits of this data directory. A directory that is lost takes its node id with it.
func (s *Store) NodeID() string { return s.identity().node }

// Name returns the name of the node, of characters [A-Za-z0-9-_], as it was given when the directory was made.
func (s *Store) Name() string { return s.identity().name }

func (s *Store) identity() identity {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.id
}

// Full says that little free space is left on the disk, so that what needs more of it should be refused. Writes that free
// or renew still have the reserve to live on.
func (s *Store) Full() bool { return s.full.Load() || s.media != nil && s.media.Full() }

// Stalled returns for how long the oldest write or sync in flight has been running; 0 if none is.
func (s *Store) Stalled() time.Duration {
	_, age := s.g.oldest()
	return age
}

// Err returns the failure that has stopped the Store, or nil.
func (s *Store) Err() error { return s.g.err() }

// Close leaves the marker of a clean shutdown, unless something failed before, and gives the directory free. Raft must have
// been shut down. A second call does nothing.
func (s *Store) Close() error {
	var err error
	s.closed.Do(func() {
		close(s.stop)
		s.running.Wait()
		err = s.shutDown()
	})
	return err
}

// shutDown closes the files in the order in which nothing is lost: the marker after the log, the lock last.
func (s *Store) shutDown() error {
	if s.wal == nil {
		return nil
	}
	last, err := s.log.LastIndex()
	err = errors.Join(err, s.wal.Close())
	if err == nil && s.g.err() == nil {
		err = writeMarker(s.g, s.dir.marker(), marker{last: last, snapshot: newestSnapshot(s.snaps)})
	}
	return errors.Join(err, s.lock.Close())
}
