package node

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/doubledutch-lock/doubledutch/internal/locktable"
	"github.com/doubledutch-lock/doubledutch/internal/storage"
)

// gatedLog is a log on a disk that can be held up.
type gatedLog struct {
	*raft.InmemStore

	gate turn  // held: nothing is written
	err  error // of the next write; set while the gate is held
}

func (l *gatedLog) StoreLog(e *raft.Log) error { return l.StoreLogs([]*raft.Log{e}) }

func (l *gatedLog) StoreLogs(es []*raft.Log) error {
	l.gate.Lock()
	defer l.gate.Unlock()
	if l.err != nil {
		return l.err
	}
	return l.InmemStore.StoreLogs(es)
}

func newGatedLog() *gatedLog { return &gatedLog{InmemStore: raft.NewInmemStore(), gate: make(turn, 1)} }

// entries makes entries from one index to another.
func entries(kind raft.LogType, from, to uint64) []*raft.Log {
	var es []*raft.Log
	for i := from; i <= to; i++ {
		es = append(es, &raft.Log{Index: i, Term: 1, Type: kind})
	}
	return es
}

func TestLeaderDoesNotWaitForItsDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newGatedLog()
		leads := true
		l := newParallelLog(disk, func() bool { return leads })
		store := func(es []*raft.Log) <-chan error {
			done := make(chan error, 1)
			go func() { done <- l.StoreLogs(es) }()
			synctest.Wait()
			return done
		}
		isDone := func(what string, done <-chan error, want bool) {
			t.Helper()
			select {
			case err := <-done:
				if err != nil || !want {
					t.Errorf("%s: came back, %v", what, err)
				}
			default:
				if want {
					t.Errorf("%s: did not come back", what)
				}
			}
		}

		isDone("the first entry of a term", store(entries(raft.LogNoop, 1, 1)), true)
		disk.gate.Lock()
		isDone("commands", store(entries(raft.LogCommand, 2, 3)), true)
		isDone("more commands", store(entries(raft.LogCommand, 4, 4)), true)
		last, err := l.LastIndex()
		if err != nil || last != 4 {
			t.Errorf("the last is %d, %v", last, err)
		}
		for i := range uint64(6) {
			var e raft.Log
			if err := l.GetLog(i, &e); (err == nil) != (i >= 1 && i <= 4) || err == nil && e.Index != i {
				t.Errorf("entry %d: %+v, %v", i, e, err)
			}
		}
		for commit, want := range map[uint64]uint64{0: 0, 1: 1, 2: 1, 4: 1} {
			req := &raft.AppendEntriesRequest{LeaderCommitIndex: commit}
			if got := l.bounded(req); got.LeaderCommitIndex != want || req.LeaderCommitIndex != commit || (got == req) != (commit == want) {
				t.Errorf("of %d, followers are told %d", commit, got.LeaderCommitIndex)
			}
		}
		applied := make(chan error, 1)
		go func() { applied <- l.synced(3) }()
		early := make(chan error, 1)
		go func() { early <- l.synced(1) }()
		members := store(entries(raft.LogConfiguration, 5, 5))
		cut := make(chan error, 1)
		go func() { cut <- l.DeleteRange(1, 2) }()
		synctest.Wait()
		isDone("what is on disk", early, true)
		isDone("what is not", applied, false)
		isDone("other members", members, false)
		isDone("a shorter log", cut, false)
		disk.gate.Unlock()
		synctest.Wait()
		isDone("what was not on disk", applied, true)
		isDone("other members", members, true)
		isDone("a shorter log", cut, true)
		first, _ := disk.FirstIndex()
		if last, _ = disk.LastIndex(); first != 3 || last != 5 || l.onDisk(9) != 9 {
			t.Errorf("on disk are %d to %d", first, last)
		}

		leads = false
		disk.gate.Lock()
		follows := store(entries(raft.LogCommand, 6, 6))
		isDone("what a follower is given", follows, false)
		disk.gate.Unlock()
		synctest.Wait()
		isDone("what a follower is given", follows, true)
	})
}

func TestFailedWriteOfALeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newGatedLog()
		l := newParallelLog(disk, func() bool { return true })
		disk.gate.Lock()
		if err := l.StoreLogs(entries(raft.LogCommand, 1, 2)); err != nil {
			t.Fatal(err)
		}
		waits := make(chan error, 1)
		go func() { waits <- l.synced(1) }()
		broken := errors.New("the disk is broken")
		disk.err = broken
		disk.gate.Unlock()
		synctest.Wait()
		disk.gate.Lock() // good again, which helps nobody
		disk.err = nil
		disk.gate.Unlock()
		for what, err := range map[string]error{
			"who waited": <-waits, "who comes": l.synced(2), "settle": l.settle(), "commands": l.StoreLogs(entries(raft.LogCommand, 3, 3)),
			"others": l.StoreLogs(entries(raft.LogNoop, 3, 3)), "DeleteRange": l.DeleteRange(1, 2),
		} {
			if !errors.Is(err, broken) {
				t.Errorf("%s: %v", what, err)
			}
		}
		if last, _ := disk.LastIndex(); last != 0 || l.onDisk(5) != 0 {
			t.Errorf("on disk is %d, and %d is said to be", last, l.onDisk(5))
		}
	})
}

// memory are media whose log can be held up.
type memory struct {
	log *gatedLog
	raft.StableStore
	raft.SnapshotStore
	id []byte
}

func (m *memory) Log() raft.LogStore            { return m.log }
func (m *memory) Stable() raft.StableStore      { return m.StableStore }
func (m *memory) Snapshots() raft.SnapshotStore { return m.SnapshotStore }
func (m *memory) Identity() []byte              { return m.id }
func (m *memory) SaveIdentity(id []byte) error  { m.id = slices.Clone(id); return nil }
func (m *memory) Ended() bool                   { return false }
func (m *memory) Full() bool                    { return false }

// A leader's disk that is held up does not keep an entry from its followers, but from everybody's table.
func TestNothingIsToldThatTheLeaderHasNotWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex // guards disks
		disks := map[string]*gatedLog{}
		c := openTrioOf(t, &Simulation{Open: func(o storage.Options) (*storage.Store, error) {
			m := &memory{log: newGatedLog(), StableStore: raft.NewInmemStore(), SnapshotStore: raft.NewInmemSnapshotStore()}
			mu.Lock()
			defer mu.Unlock()
			disks[o.Name] = m.log
			return storage.OpenOn(o, m)
		}})
		name, leader := c.leader()
		mustAcquire(t, leader, acquireCmd("db", "a", 0), locktable.Granted)
		time.Sleep(time.Second) // virtual
		before, err := disks[name].LastIndex()
		if err != nil {
			t.Fatal(err)
		}
		disks[name].gate.Lock()
		got := acquireLater(t.Context(), c.followers()[0], "b")
		other := make(chan error, 1)
		go func() {
			_, err := leader.Acquire(t.Context(), acquireCmd("other", "c", 0), Slice{})
			other <- err
		}()
		time.Sleep(time.Second) // virtual
		for _, f := range c.followers() {
			if last := f.raft.LastIndex(); last <= before {
				t.Errorf("a follower has nothing after %d", before)
			}
			if applied := f.fsm.applied.Load(); applied > before {
				t.Errorf("a follower has applied %d, and the leader has written %d", applied, before)
			}
		}
		if applied := leader.fsm.applied.Load(); applied > before {
			t.Errorf("the leader has applied %d, and has written %d", applied, before)
		}
		unanswered(t, got)
		select {
		case err := <-other:
			t.Errorf("the leader has answered, %v", err)
			other <- err // for below
		default:
		}
		disks[name].gate.Unlock()
		if err := <-other; err != nil {
			t.Error(err)
		}
		mustRelease(t, leader, "db", "a")
		if a := receive(t, got); a.err != nil || a.out.Code != locktable.Granted {
			t.Errorf("code %d, error %v", a.out.Code, a.err)
		}
	})
}
