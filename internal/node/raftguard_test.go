package node

import (
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/hashicorp/raft"

	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

// A snapshot that is older than what a follower has committed is taken from its sender and goes no further.
func TestLateSnapshotIsKeptFromRaft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openTrio(t)
		f := c.followers()[0]
		mustAcquire(t, f, acquireCmd("db", "a", 0), locktable.Granted)
		time.Sleep(time.Second) // virtual
		before := f.raft.CommitIndex()
		content := strings.NewReader("nothing that could be restored")
		_, leader := f.raft.LeaderWithID()
		addr := raft.ServerAddress(f.leaderAddr())
		answer := make(chan raft.RPCResponse, 1)
		g := &raftGuard{out: make(chan raft.RPC), closed: make(chan struct{}), node: &f.raftRef, log: f.log, snapshots: make(turn, 1)}
		g.pass(raft.RPC{RespChan: answer, Reader: content, Command: &raft.InstallSnapshotRequest{
			RPCHeader: raft.RPCHeader{ID: []byte(leader), Addr: []byte(addr)}, SnapshotVersion: 1, Term: f.raft.CurrentTerm(),
			LastLogIndex: before - 1, LastLogTerm: 1, Size: int64(content.Len()),
		}})
		r, ok := (<-answer).Response.(*raft.InstallSnapshotResponse)
		if !ok || !r.Success || content.Len() != 0 {
			t.Errorf("answer %+v, %d bytes left", r, content.Len())
		}
		if f.raft.CommitIndex() < before || f.raft.AppliedIndex() < before {
			t.Errorf("committed %d, applied %d, before %d", f.raft.CommitIndex(), f.raft.AppliedIndex(), before)
		}
		// One that brings news is passed on.
		go g.pass(raft.RPC{RespChan: answer, Reader: content, Command: &raft.InstallSnapshotRequest{
			Term: f.raft.CurrentTerm(), LastLogIndex: before + 1000,
		}})
		passed := <-g.out
		passed.Respond(nil, nil)
		<-answer
	})
}

// Entries after one that is only in a snapshot are cut to what is not committed; all others come through as they are.
func TestUncovered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openTrioOf(t, &Simulation{TrailingLogs: 1})
		f := c.followers()[0]
		for _, key := range []string{"a", "b", "c", "d"} {
			mustAcquire(t, f, acquireCmd("lock "+key, key, 0), locktable.Granted)
		}
		time.Sleep(time.Second) // virtual
		f.snapshot()
		mustAcquire(t, f, acquireCmd("db", "e", 0), locktable.Granted)
		time.Sleep(time.Second) // virtual
		first, err := f.store.Log().FirstIndex()
		last, term := f.raft.LastIndex(), f.raft.CurrentTerm()
		if err != nil || first < 4 || f.raft.CommitIndex() != last {
			t.Fatalf("the log goes from %d to %d (%v), %d is committed", first, last, err, f.raft.CommitIndex())
		}
		g := &raftGuard{node: &f.raftRef, log: f.log}
		for name, c := range map[string]struct {
			prev, to, term, commit uint64
			changed                bool
			left                   int
			commits                uint64
		}{
			"only in the snapshot":                {first - 2, last, term, last + 9, true, 0, last},
			"only in the snapshot, with news":     {first - 1, last + 2, term, last + 9, true, 2, last + 2},
			"only in the snapshot, less is known": {first - 2, last + 2, term, last - 1, true, 2, last - 1},
			"without entries":                     {first - 1, first - 1, term, last, true, 0, last},
			"of a new term":                       {first - 1, last + 1, term + 1, last, true, 1, last},
			"of an old term":                      {first - 1, last + 1, term - 1, last, false, 0, 0},
			"in the log":                          {first, last + 1, term, last, false, 0, 0},
			"the last":                            {last, last + 1, term, last, false, 0, 0},
			"not here yet":                        {last + 1, last + 2, term, last, false, 0, 0},
			"from the beginning":                  {0, last, term, last, false, 0, 0},
		} {
			req := &raft.AppendEntriesRequest{Term: c.term, PrevLogEntry: c.prev, PrevLogTerm: 1, LeaderCommitIndex: c.commit}
			for i := c.prev + 1; i <= c.to; i++ {
				req.Entries = append(req.Entries, &raft.Log{Index: i, Term: 1})
			}
			before := *req
			got := g.uncovered(req)
			if !reflect.DeepEqual(*req, before) {
				t.Errorf("%s: the request of the sender was changed", name)
			}
			if !c.changed {
				if got != req {
					t.Errorf("%s: changed to %+v", name, got)
				}
				continue
			}
			if got.PrevLogEntry != 0 || got.PrevLogTerm != 0 || len(got.Entries) != c.left || got.LeaderCommitIndex != c.commits ||
				c.left > 0 && got.Entries[0].Index != last+1 || got.Term != c.term {
				t.Errorf("%s: %+v", name, got)
			}
		}
	})
}

// A snapshot of the leader and one of the node's own exclude each other.
func TestOneSnapshotAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := open(t, "")
		g := &raftGuard{out: make(chan raft.RPC), closed: make(chan struct{}), node: &n.raftRef, log: n.log, snapshots: n.snapshots}
		install := func(content *strings.Reader) <-chan raft.RPCResponse {
			answer := make(chan raft.RPCResponse, 1)
			go g.pass(raft.RPC{RespChan: answer, Reader: content, Command: &raft.InstallSnapshotRequest{
				Term: n.raft.CurrentTerm(), LastLogIndex: n.raft.LastIndex() + 1000, Size: int64(content.Len()),
			}})
			return answer
		}

		n.snapshots.Lock() // one is being taken
		content := strings.NewReader("a snapshot")
		r, ok := (<-install(content)).Response.(*raft.InstallSnapshotResponse)
		if !ok || r.Success || content.Len() != 0 {
			t.Errorf("while one is taken: answer %+v, %d bytes left", r, content.Len())
		}
		n.snapshots.Unlock()

		answer := install(content)
		passed := <-g.out
		before := snapshotIndex(t, n)
		go n.snapshot()
		time.Sleep(time.Minute) // virtual
		if now := snapshotIndex(t, n); now != before {
			t.Errorf("a snapshot at %d was taken while one was installed", now)
		}
		passed.Respond(nil, nil)
		<-answer
		synctest.Wait()
		if now := snapshotIndex(t, n); now <= before {
			t.Errorf("the newest snapshot is at %d, it was at %d", now, before)
		}
	})
}

// snapshotIndex returns the entry at which the newest snapshot is, or 0.
func snapshotIndex(t *testing.T, n *Node) uint64 {
	t.Helper()
	metas, err := n.store.Snapshots().List()
	if err != nil {
		t.Fatal(err)
	}
	if len(metas) == 0 {
		return 0
	}
	return metas[0].Index
}

// A candidate that still has a leader, which is gone, does not keep the others from electing one.
func TestCandidateForgetsItsLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openTrio(t)
		name, leader := c.leader()
		f := c.followers()
		c.isolate(f[0].transport.Addr(), true)
		time.Sleep(10 * time.Second) // virtual
		if f[0].raft.State() != raft.Candidate {
			t.Fatalf("who hears nobody is %v", f[0].raft.State())
		}
		mustAcquire(t, leader, acquireCmd("db", "a", 0), locktable.Granted) // which the candidate does not have
		c.isolate(c.members[name], true)
		setLeader(f[0].raft, raft.ServerAddress(c.members[name]))
		c.isolate(f[0].transport.Addr(), false)
		time.Sleep(10 * time.Second) // virtual
		mustAcquire(t, f[0], acquireCmd("db", "b", 0), locktable.Held)
	})
}

// setLeader does what a heartbeat does that is answered too late.
func setLeader(r *raft.Raft, leader raft.ServerAddress) {
	field := func(name string) unsafe.Pointer {
		return reflect.ValueOf(r).Elem().FieldByName(name).Addr().UnsafePointer()
	}
	lock := (*sync.RWMutex)(field("leaderLock"))
	lock.Lock()
	defer lock.Unlock()
	*(*raft.ServerAddress)(field("leaderAddr")) = leader
}
