package storage

import (
	"fmt"
	"sync"

	"github.com/hashicorp/raft"
)

// memLog is a raft.LogStore in memory: a slice of entries without gaps.
type memLog struct {
	mu    sync.RWMutex // guards the rest
	first uint64       // index of entries[0], if there is one
	logs  []raft.Log
}

func newMemLog() *memLog { return &memLog{} }

func (m *memLog) FirstIndex() (uint64, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if len(m.logs) == 0 {
		return 0, nil
	}
	return m.first, nil
}

func (m *memLog) LastIndex() (uint64, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if len(m.logs) == 0 {
		return 0, nil
	}
	return m.first + uint64(len(m.logs)) - 1, nil
}

func (m *memLog) GetLog(index uint64, out *raft.Log) error {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if index < m.first || index-m.first >= uint64(len(m.logs)) {
		return raft.ErrLogNotFound
	}
	*out = m.logs[index-m.first]
	return nil
}

func (m *memLog) StoreLog(l *raft.Log) error { return m.StoreLogs([]*raft.Log{l}) }

func (m *memLog) StoreLogs(logs []*raft.Log) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range logs {
		if len(m.logs) == 0 {
			m.first = l.Index
		}
		if next := m.first + uint64(len(m.logs)); l.Index != next {
			return fmt.Errorf("entry %d can't follow entry %d", l.Index, next-1)
		}
		m.logs = append(m.logs, *l)
	}
	return nil
}

// DeleteRange removes a prefix or a suffix. What a prefix leaves is copied, so that the memory of the removed entries is freed.
func (m *memLog) DeleteRange(lo, hi uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.logs) == 0 || lo > hi {
		return nil
	}
	last := m.first + uint64(len(m.logs)) - 1
	switch {
	case hi < m.first || lo > last:
	case lo <= m.first && hi >= last:
		m.logs = nil
	case lo <= m.first:
		m.logs = append([]raft.Log(nil), m.logs[hi+1-m.first:]...)
		m.first = hi + 1
	case hi >= last:
		clear(m.logs[lo-m.first:])
		m.logs = m.logs[:lo-m.first]
	default:
		return fmt.Errorf("only a prefix or a suffix of the log can be removed, not %d to %d", lo, hi)
	}
	return nil
}
