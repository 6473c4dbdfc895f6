package storage

import (
	"bytes"
	"errors"
	"sync"

	"github.com/hashicorp/raft"
)

// Memory is a disk in memory: it outlives the Stores that are opened on it one after another, as a data directory outlives
// processes. It is for clusters that run inside a test. Its methods may be called from any goroutine.
type Memory struct {
	log    *memLog
	stable *raft.InmemStore
	snaps  *memSnapshots

	mu       sync.Mutex // guards identity, and is held while anything is written
	identity []byte
}

// NewMemory returns an empty disk.
func NewMemory() *Memory {
	return &Memory{log: newMemLog(), stable: raft.NewInmemStore(), snaps: &memSnapshots{}}
}

// Attach returns the disk as one process sees it. Once ended says so, nothing that is left of the process writes to it any
// more: what is read after that, by whomever, stays. ended must not block.
func (m *Memory) Attach(ended func() bool) Media { return &memoryMedia{m, ended} }

var errEnded = errors.New("the process has ended")

type memoryMedia struct {
	m     *Memory
	ended func() bool
}

// write does apply, unless the process has ended.
func (a *memoryMedia) write(apply func() error) error {
	a.m.mu.Lock()
	defer a.m.mu.Unlock()
	if a.ended() {
		return errEnded
	}
	return apply()
}

func (a *memoryMedia) Log() raft.LogStore            { return &memoryLog{a.m.log, a} }
func (a *memoryMedia) Stable() raft.StableStore      { return &memoryStable{a.m.stable, a} }
func (a *memoryMedia) Snapshots() raft.SnapshotStore { return &memorySnapshots{a.m.snaps, a} }
func (a *memoryMedia) Ended() bool                   { return a.ended() }
func (a *memoryMedia) Full() bool                    { return false }

// Identity is asked first by whoever opens the disk, and so waits for the last write of whoever had it before.
func (a *memoryMedia) Identity() []byte {
	a.m.mu.Lock()
	defer a.m.mu.Unlock()
	return bytes.Clone(a.m.identity)
}

func (a *memoryMedia) SaveIdentity(id []byte) error {
	return a.write(func() error {
		a.m.identity = bytes.Clone(id)
		return nil
	})
}

type memoryLog struct {
	*memLog
	by *memoryMedia
}

func (l *memoryLog) StoreLog(e *raft.Log) error { return l.StoreLogs([]*raft.Log{e}) }

func (l *memoryLog) StoreLogs(es []*raft.Log) error {
	return l.by.write(func() error { return l.memLog.StoreLogs(es) })
}

func (l *memoryLog) DeleteRange(lo, hi uint64) error {
	return l.by.write(func() error { return l.memLog.DeleteRange(lo, hi) })
}

type memoryStable struct {
	*raft.InmemStore
	by *memoryMedia
}

func (s *memoryStable) Set(key, val []byte) error {
	return s.by.write(func() error { return s.InmemStore.Set(key, val) })
}

func (s *memoryStable) SetUint64(key []byte, val uint64) error {
	return s.by.write(func() error { return s.InmemStore.SetUint64(key, val) })
}

type memorySnapshots struct {
	*memSnapshots
	by *memoryMedia
}

func (s *memorySnapshots) Create(version raft.SnapshotVersion, index, term uint64, configuration raft.Configuration,
	configurationIndex uint64, trans raft.Transport,
) (raft.SnapshotSink, error) {
	sink, err := s.memSnapshots.Create(version, index, term, configuration, configurationIndex, trans)
	if err != nil {
		return nil, err
	}
	return &memorySink{sink, s.by}, nil
}

type memorySink struct {
	raft.SnapshotSink
	by *memoryMedia
}

func (s *memorySink) Close() error { return s.by.write(s.SnapshotSink.Close) }
