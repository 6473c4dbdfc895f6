package node

import (
	"io"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// raftGuard stands between the network and Raft. It asks for votes without regard to who asks (votes.go), and keeps snapshots
// away that are older than what is committed here. Such a one arrives when a connection was slow and its sender has succeeded over
// another one meanwhile. hashicorp/raft v1.8.0 installs whatever comes: it throws away its log, with entries that it has
// acknowledged to the leader, goes back to the old state, and panics when it misses the entries in between.
//
// Nor does a snapshot come through while this node takes one of its own, which a slow disk makes long. Raft v1.8.0 would install the newer
// one, throw away its log, and then note the older one of its own as the newest: it misses the entries between the two, which it has
// acknowledged, and may vote for somebody who never had them; no leader can bring them, because what it sends is late. Found by the simulation. The
// leader is told that it was not installed, and tries again.
//
// Entries come in a form that Raft takes, see uncovered; requests for a vote come to a node that can grant it, see forget and impartial.
type raftGuard struct {
	raft.Transport
	out       chan raft.RPC
	closed    chan struct{}
	once      sync.Once
	node      *atomic.Pointer[raft.Raft]
	log       *parallelLog
	snapshots turn // held while a snapshot is taken or installed
}

var (
	_ raft.WithPreVote = (*raftGuard)(nil)
	_ raft.WithClose   = (*raftGuard)(nil)
)

func (n *Node) guardRaft(t raft.Transport) *raftGuard {
	g := &raftGuard{Transport: t, out: make(chan raft.RPC), closed: make(chan struct{}), node: &n.raftRef, log: n.log, snapshots: n.snapshots}
	go g.run()
	return g
}

func (g *raftGuard) Consumer() <-chan raft.RPC { return g.out }

// run passes messages on. One is passed on when the one before was answered, so that what is committed is known when a
// snapshot comes.
func (g *raftGuard) run() {
	for {
		select {
		case rpc := <-g.Transport.Consumer():
			g.pass(rpc)
		case <-g.closed:
			return
		}
	}
}

func (g *raftGuard) pass(rpc raft.RPC) {
	if req, ok := rpc.Command.(*raft.InstallSnapshotRequest); ok {
		late := g.late(req)
		if late || !g.snapshots.TryLock() {
			_, err := io.Copy(io.Discard, rpc.Reader)
			rpc.Respond(&raft.InstallSnapshotResponse{Term: req.Term, Success: late && err == nil}, err)
			return
		}
		defer g.snapshots.Unlock()
	}
	switch req := rpc.Command.(type) {
	case *raft.AppendEntriesRequest:
		rpc.Command = g.uncovered(req)
	case *raft.RequestVoteRequest, *raft.RequestPreVoteRequest:
		g.forget()
		rpc.Command = g.impartial(req)
	}
	to := rpc.RespChan
	if answer, ok := g.exchange(rpc); ok {
		to <- answer
	}
}

// exchange gets Raft's answer to a message, unless the guard is closed before.
func (g *raftGuard) exchange(rpc raft.RPC) (answer raft.RPCResponse, ok bool) {
	answers := make(chan raft.RPCResponse, 1)
	rpc.RespChan = answers
	select {
	case g.out <- rpc:
	case <-g.closed:
		return answer, false
	}
	select {
	case answer = <-answers:
		return answer, true
	case <-g.closed:
		return answer, false
	}
}

// late tells whether all that is in the snapshot is committed here already. A sender of an older term is left to Raft.
func (g *raftGuard) late(req *raft.InstallSnapshotRequest) bool {
	r := g.node.Load()
	return r != nil && req.Term >= r.CurrentTerm() && req.LastLogIndex <= max(r.CommitIndex(), r.AppliedIndex())
}

// forget makes a candidate forget its leader. Raft v1.8.0 answers heartbeats beside everything else. One that is answered in the moment in which
// the node becomes a candidate leaves it with the leader that it has missed, for as long as it is a candidate. If that one is gone, the
// candidate refuses its vote to all others because it has a leader, and if they have newer logs nobody is ever elected. A message of its own
// term that comes from no leader makes it a follower without one. Found by the simulation.
func (g *raftGuard) forget() {
	r := g.node.Load()
	if r == nil || r.State() != raft.Candidate {
		return
	}
	if leader, _ := r.LeaderWithID(); leader != "" {
		header := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax}
		g.exchange(raft.RPC{Command: &raft.AppendEntriesRequest{RPCHeader: header, Term: r.CurrentTerm()}})
	}
}

// uncovered returns req without the entries that are committed here, if the one before them is only in a snapshot. Raft v1.8.0 would
// look for that one in the log and refuse the rest. The leader would go back entry by entry, send the snapshot at the end, which is late here,
// and begin again, without end: a node that has installed a snapshot needs no more for that than a lost answer to the first entries after it.
// Every leader has what is committed (Raft, §5.4), so there is nothing to compare. The newest commit index goes no further than what is compared.
func (g *raftGuard) uncovered(req *raft.AppendEntriesRequest) *raft.AppendEntriesRequest {
	r := g.node.Load()
	if r == nil || req.PrevLogEntry == 0 || req.Term < r.CurrentTerm() {
		return req
	}
	committed := max(r.CommitIndex(), r.AppliedIndex())
	if req.PrevLogEntry > committed || req.PrevLogEntry == r.LastIndex() {
		return req
	}
	first, err := g.log.FirstIndex()
	if err != nil || first != 0 && first <= req.PrevLogEntry {
		return req
	}
	c := *req
	c.PrevLogEntry, c.PrevLogTerm = 0, 0 // Raft compares nothing then
	for len(c.Entries) > 0 && c.Entries[0].Index <= committed {
		c.Entries = c.Entries[1:]
	}
	compared := committed
	if n := len(c.Entries); n > 0 {
		compared = c.Entries[n-1].Index
	}
	c.LeaderCommitIndex = min(c.LeaderCommitIndex, compared)
	return &c
}

// AppendEntries sends what parallelLog lets a follower know.
func (g *raftGuard) AppendEntries(id raft.ServerID, to raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	return g.Transport.AppendEntries(id, to, g.log.bounded(args), resp)
}

// AppendEntriesPipeline is not supported: all goes through AppendEntries. The proposer has one entry in flight.
func (g *raftGuard) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported
}

// RequestPreVote is passed on.
func (g *raftGuard) RequestPreVote(id raft.ServerID, to raft.ServerAddress, args *raft.RequestPreVoteRequest,
	resp *raft.RequestPreVoteResponse,
) error {
	return g.Transport.(raft.WithPreVote).RequestPreVote(id, to, args, resp)
}

// Close ends run, and closes the transport. Raft calls it when it is shut down.
func (g *raftGuard) Close() error {
	g.once.Do(func() { close(g.closed) })
	if c, ok := g.Transport.(raft.WithClose); ok {
		return c.Close()
	}
	return nil
}
