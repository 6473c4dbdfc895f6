package node

import (
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// parallelLog lets a leader write commands to its disk while its followers write them to theirs (Ongaro, Consensus: Bridging Theory and
// Practice, 2014, section 10.2.1): an entry takes the longer of the two times and not their sum. What that brings is in docs/adr/0016.
//
// hashicorp/raft counts the leader itself as one that has an entry as soon as StoreLogs returns. Three things make that true
// before anybody can tell the difference:
//   - an entry is not applied before it is on this disk (synced), so nobody is answered and nobody reads it;
//   - followers are not told that it is committed before that (bounded), so they do not apply it either;
//   - whatever is not a leader's command is on disk when StoreLogs returns, and so is all that was given before.
//
// The last is for the first entry of a term and for members: what earlier leaders left is committed by an entry that is on the disks of a
// majority (section 3.6.2 there), and members change one at a time. It is for a leader that follows again, too: another leader
// counts it only for entries of its own term. And it is for single servers, which have nobody to wait for.
type parallelLog struct {
	raft.LogStore
	leads func() bool // called by StoreLogs on raft's main goroutine, where alone a node becomes a leader

	first atomic.Uint64 // index of the first entry that is not on disk; 0: all are

	mu      sync.Mutex // guards all below
	changed sync.Cond  // pending or err
	pending []*raft.Log
	err     error // of writing the first of pending; nothing is written any more
}

var _ raft.MonotonicLogStore = (*parallelLog)(nil)

func newParallelLog(in raft.LogStore, leads func() bool) *parallelLog {
	l := &parallelLog{LogStore: in, leads: leads}
	l.changed.L = &l.mu
	return l
}

// IsMonotonic tells raft that the log has no gaps.
func (l *parallelLog) IsMonotonic() bool { return true }

func (l *parallelLog) StoreLog(log *raft.Log) error { return l.StoreLogs([]*raft.Log{log}) }

// StoreLogs appends logs. Commands of a leader may be on their way to the disk when it returns.
func (l *parallelLog) StoreLogs(logs []*raft.Log) error {
	if !l.leads() || !areCommands(logs) {
		if err := l.settle(); err != nil {
			return err
		}
		return l.LogStore.StoreLogs(logs)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return l.err
	}
	l.pending = append(l.pending, logs...)
	if len(l.pending) == len(logs) { // nobody writes
		l.first.Store(logs[0].Index)
		go l.write()
	}
	return nil
}

func areCommands(logs []*raft.Log) bool {
	for _, l := range logs {
		if l.Type != raft.LogCommand {
			return false
		}
	}
	return len(logs) > 0
}

// write writes what is pending until nothing is.
func (l *parallelLog) write() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.pending) > 0 && l.err == nil {
		logs := l.pending // more may be appended behind it meanwhile
		l.mu.Unlock()
		err := l.LogStore.StoreLogs(logs)
		l.mu.Lock()
		if l.err = err; err == nil {
			l.written(len(logs))
		}
		l.changed.Broadcast()
	}
}

// written takes n entries from pending.
func (l *parallelLog) written(n int) {
	rest := copy(l.pending, l.pending[n:])
	clear(l.pending[rest:])
	l.pending = l.pending[:rest]
	if rest == 0 {
		l.first.Store(0)
	} else {
		l.first.Store(l.pending[0].Index)
	}
}

// onDisk returns the index up to which entries that were given are on disk, out of those up to index.
func (l *parallelLog) onDisk(index uint64) uint64 {
	if first := l.first.Load(); first != 0 {
		return min(index, first-1)
	}
	return index
}

// synced returns when all entries up to index that were given are on disk, or why they cannot be.
func (l *parallelLog) synced(index uint64) error {
	if l.onDisk(index) == index {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.err == nil && l.onDisk(index) < index {
		l.changed.Wait()
	}
	return l.err
}

// settle returns when all entries that were given before the call are on disk, or why they cannot be.
func (l *parallelLog) settle() error {
	if l.first.Load() == 0 {
		return nil
	}
	last, err := l.LastIndex()
	if err != nil {
		return err
	}
	return l.synced(last)
}

// bounded returns what a leader may tell a follower, which must not know that an entry is committed before it is on this disk. The
// request itself is left as it is.
func (l *parallelLog) bounded(req *raft.AppendEntriesRequest) *raft.AppendEntriesRequest {
	commit := l.onDisk(req.LeaderCommitIndex)
	if commit == req.LeaderCommitIndex {
		return req
	}
	c := *req
	c.LeaderCommitIndex = commit
	return &c
}

// GetLog reads the entry at index, be it on disk yet or not.
func (l *parallelLog) GetLog(index uint64, out *raft.Log) error {
	if l.onDisk(index) < index {
		if e := l.unwritten(index); e != nil {
			*out = *e
			return nil
		}
	}
	return l.LogStore.GetLog(index, out)
}

// unwritten returns a pending entry, or nil.
func (l *parallelLog) unwritten(index uint64) *raft.Log {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.pending) == 0 || index < l.pending[0].Index || index-l.pending[0].Index >= uint64(len(l.pending)) {
		return nil
	}
	return l.pending[index-l.pending[0].Index]
}

// LastIndex returns the index of the newest entry, be it on disk yet or not.
func (l *parallelLog) LastIndex() (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.pending); n > 0 {
		return l.pending[n-1].Index, nil
	}
	return l.LogStore.LastIndex()
}

// DeleteRange removes the entries lo to hi, both included, once all that were given are on disk.
func (l *parallelLog) DeleteRange(lo, hi uint64) error {
	if err := l.settle(); err != nil {
		return err
	}
	return l.LogStore.DeleteRange(lo, hi)
}
