package storage

import (
	"errors"
	"fmt"
	"io"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
)

// logStore is the raft.LogStore of a Store: an inner one behind the guard. It is monotonic, whatever the inner one says.
type logStore struct {
	in     raft.LogStore
	g      *guard
	path   string // where the log lives, for messages
	stored func() // called after each successful append; nil: nothing
}

var _ raft.MonotonicLogStore = (*logStore)(nil)

func (l *logStore) FirstIndex() (uint64, error) { return l.in.FirstIndex() }
func (l *logStore) LastIndex() (uint64, error)  { return l.in.LastIndex() }

// IsMonotonic tells raft that the log has no gaps.
func (l *logStore) IsMonotonic() bool { return true }

// GetLog reads the entry at index. An absent one is raft.ErrLogNotFound; one that does not pass its checksum or can't be
// read fails the Store.
func (l *logStore) GetLog(index uint64, out *raft.Log) error {
	err := l.in.GetLog(index, out)
	switch {
	case err == nil && out.Index != index:
		return l.g.latch(corrupt(l.path, "entry %d is stored in the place of entry %d", out.Index, index))
	case err == nil, errors.Is(err, raft.ErrLogNotFound), errors.Is(err, wal.ErrClosed):
		return err
	case errors.Is(err, errBadEntry), errors.Is(err, wal.ErrCorrupt), errors.Is(err, io.EOF):
		return l.g.latch(corrupt(l.path, "entry %d can't be read back: %v", index, err))
	}
	return l.g.fail(fmt.Sprintf("read log entry %d", index), err)
}

func (l *logStore) StoreLog(log *raft.Log) error { return l.StoreLogs([]*raft.Log{log}) }

// StoreLogs appends logs and returns when they are on disk.
func (l *logStore) StoreLogs(logs []*raft.Log) error {
	n, err := l.g.begin("append to the log")
	if err != nil {
		return err
	}
	if err := l.g.end(n, l.in.StoreLogs(logs)); err != nil {
		return err
	}
	if l.stored != nil {
		l.stored()
	}
	return nil
}

// DeleteRange removes the entries lo to hi, both included, which are a prefix or a suffix of the log.
func (l *logStore) DeleteRange(lo, hi uint64) error {
	n, err := l.g.begin("truncate the log")
	if err != nil {
		return err
	}
	return l.g.end(n, l.in.DeleteRange(lo, hi))
}

// stableStore is the raft.StableStore of a Store: an inner one behind the guard.
type stableStore struct {
	in raft.StableStore
	g  *guard
}

func (s *stableStore) Get(key []byte) ([]byte, error)       { return s.in.Get(key) }
func (s *stableStore) GetUint64(key []byte) (uint64, error) { return s.in.GetUint64(key) }

func (s *stableStore) Set(key, val []byte) error {
	n, err := s.g.begin("write term or vote")
	if err != nil {
		return err
	}
	return s.g.end(n, s.in.Set(key, val))
}

func (s *stableStore) SetUint64(key []byte, val uint64) error {
	n, err := s.g.begin("write term or vote")
	if err != nil {
		return err
	}
	return s.g.end(n, s.in.SetUint64(key, val))
}
