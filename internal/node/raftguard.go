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
type raftGuard struct {
	raft.Transport
	out    chan raft.RPC
	closed chan struct{}
	once   sync.Once
	node   *atomic.Pointer[raft.Raft]
}

var (
	_ raft.WithPreVote = (*raftGuard)(nil)
	_ raft.WithClose   = (*raftGuard)(nil)
)

func (n *Node) guardRaft(t raft.Transport) *raftGuard {
	g := &raftGuard{Transport: t, out: make(chan raft.RPC), closed: make(chan struct{}), node: &n.raftRef}
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
	if req, ok := rpc.Command.(*raft.InstallSnapshotRequest); ok && g.late(req) {
		_, err := io.Copy(io.Discard, rpc.Reader)
		rpc.Respond(&raft.InstallSnapshotResponse{Term: req.Term, Success: err == nil}, err)
		return
	}
	answer := make(chan raft.RPCResponse, 1)
	to := rpc.RespChan
	rpc.RespChan = answer
	rpc.Command = g.impartial(rpc.Command)
	select {
	case g.out <- rpc:
	case <-g.closed:
		return
	}
	select {
	case a := <-answer:
		to <- a
	case <-g.closed:
	}
}

// late tells whether all that is in the snapshot is committed here already. A sender of an older term is left to Raft.
func (g *raftGuard) late(req *raft.InstallSnapshotRequest) bool {
	r := g.node.Load()
	return r != nil && req.Term >= r.CurrentTerm() && req.LastLogIndex <= max(r.CommitIndex(), r.AppliedIndex())
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
