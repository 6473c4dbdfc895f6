package storage

import (
	"bytes"
	"fmt"
	"io"
	"sync"

	"github.com/hashicorp/raft"
)

// memSnapshots is a raft.SnapshotStore in memory that keeps the newest finished snapshot.
type memSnapshots struct {
	mu     sync.Mutex // guards the rest
	newest *memSink   // nil when there is none
	seq    int
}

func (m *memSnapshots) Create(version raft.SnapshotVersion, index, term uint64, configuration raft.Configuration,
	configurationIndex uint64, _ raft.Transport,
) (raft.SnapshotSink, error) {
	if version != raft.SnapshotVersionMax {
		return nil, fmt.Errorf("snapshot version %d is not known", version)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.seq++
	return &memSink{store: m, meta: raft.SnapshotMeta{
		Version: version, ID: fmt.Sprintf("%d-%d-%d", term, index, m.seq), Index: index, Term: term,
		Configuration: configuration, ConfigurationIndex: configurationIndex,
	}}, nil
}

func (m *memSnapshots) List() ([]*raft.SnapshotMeta, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.newest == nil {
		return nil, nil
	}
	meta := m.newest.meta
	return []*raft.SnapshotMeta{&meta}, nil
}

func (m *memSnapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.newest == nil || m.newest.meta.ID != id {
		return nil, nil, fmt.Errorf("there is no snapshot %q", id)
	}
	meta := m.newest.meta
	return &meta, io.NopCloser(bytes.NewReader(m.newest.data)), nil
}

// memSink is a snapshot being written. It becomes visible when it is closed.
type memSink struct {
	store *memSnapshots
	meta  raft.SnapshotMeta
	data  []byte
	done  bool
}

func (s *memSink) ID() string { return s.meta.ID }

func (s *memSink) Write(p []byte) (int, error) {
	s.data = append(s.data, p...)
	return len(p), nil
}

func (s *memSink) Close() error {
	if s.done {
		return nil
	}
	s.done = true
	s.meta.Size = int64(len(s.data))
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	if n := s.store.newest; n == nil || n.meta.Index <= s.meta.Index {
		s.store.newest = s
	}
	return nil
}

func (s *memSink) Cancel() error {
	s.done = true
	s.data = nil
	return nil
}
