package node

import (
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/doubledutch-lock/doubledutch/internal/peer"
)

// ClusterStats tells how the node stands in its cluster; the counters count since the node was opened. A single server is
// a cluster of one.
type ClusterStats struct {
	Leads, HasLeader bool
	Term             uint64
	// Since the leader was last heard of; 0 on the leader. If none ever was: since the node was opened.
	LeaderContact time.Duration
	// The newest entry of this node's log, and the newest that it knows to be committed.
	LastIndex, CommitIndex uint64
	Voters, NonVoters      int
	// How often another leader than the one before was learned of, and how often this node stood for election.
	LeaderChanges, Candidacies uint64
	// Commands that this node passed on to a leader, which answered them, and that it took from other nodes while it led.
	ForwardsSent, ForwardsReceived uint64
	// The channel to the other nodes.
	Channel peer.Stats
}

// tally counts what ClusterStats tells.
type tally struct {
	leaderChanges, candidacies, sent, received atomic.Uint64
}

// ClusterStats does not wait for anything.
func (n *Node) ClusterStats() ClusterStats {
	s := ClusterStats{
		Leads: n.isLeader(), HasLeader: n.leaderAddr() != "", Term: n.raft.CurrentTerm(),
		LastIndex: n.raft.LastIndex(), CommitIndex: n.raft.CommitIndex(),
		LeaderChanges: n.tally.leaderChanges.Load(), Candidacies: n.tally.candidacies.Load(),
		ForwardsSent: n.tally.sent.Load(), ForwardsReceived: n.tally.received.Load(),
	}
	if !s.Leads {
		heard := n.raft.LastContact()
		if heard.IsZero() {
			heard = n.queue.began
		}
		s.LeaderContact = time.Since(heard)
	}
	for _, m := range n.servers() {
		if m.Suffrage == raft.Voter {
			s.Voters++
		} else {
			s.NonVoters++
		}
	}
	if c, ok := n.transport.(interface{ Stats() peer.Stats }); ok {
		s.Channel = c.Stats()
	}
	return s
}

// Observations are dropped when more than these wait to be counted: counting must not hold up an election.
const maxObservations = 64

// countElections counts leaders and candidacies until the node stops.
func (n *Node) countElections() {
	seen := make(chan raft.Observation, maxObservations)
	o := raft.NewObserver(seen, false, func(o *raft.Observation) bool {
		switch o.Data.(type) {
		case raft.LeaderObservation, raft.RaftState:
			return true
		}
		return false
	})
	n.raft.RegisterObserver(o)
	defer n.raft.DeregisterObserver(o)
	_, last := n.raft.LeaderWithID()
	for {
		select {
		case <-n.stop:
			return
		case o := <-seen:
			last = n.countObservation(o, last)
		}
	}
}

// countObservation returns the last leader that is known of.
func (n *Node) countObservation(o raft.Observation, last raft.ServerID) raft.ServerID {
	switch d := o.Data.(type) {
	case raft.RaftState:
		if d == raft.Candidate {
			n.tally.candidacies.Add(1)
		}
	case raft.LeaderObservation:
		if d.LeaderID != "" && d.LeaderID != last {
			n.tally.leaderChanges.Add(1)
			return d.LeaderID
		}
	}
	return last
}
