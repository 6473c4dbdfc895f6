package node

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

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
		g := &raftGuard{out: make(chan raft.RPC), closed: make(chan struct{}), node: &f.raftRef}
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
