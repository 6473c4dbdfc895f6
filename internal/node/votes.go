package node

import "github.com/hashicorp/raft"

// Raft grants its vote to a candidate that is not a voter by the voter's own latest configuration, if its log is up to date
// (Ongaro, Consensus: Bridging Theory and Practice, 2014, section 4.1): that configuration may be out of date. hashicorp/raft
// v1.8.0 refuses such a candidate, and then nobody can be elected when a leader is lost for good after it has made a node a
// voter and before another one has learned of it: the new voter is refused by the other, and the other lacks what the new voter
// has. So the votes are asked for as from somebody who is a voter. A node that was removed and does not know it disturbs nobody: as
// long as there is a leader it gets no pre-vote.

// impartial returns the message with the identity of a candidate taken out of requests for votes. The message itself may be
// shared with its sender and is left as it is.
func (g *raftGuard) impartial(message any) any {
	switch req := message.(type) {
	case *raft.RequestVoteRequest:
		c := *req
		c.ID = nil // not looked at then
		return &c
	case *raft.RequestPreVoteRequest:
		c := *req
		c.ID = g.someVoter(c.ID)
		return &c
	}
	return message
}

// someVoter returns the id of a voter, or id if there is none.
func (g *raftGuard) someVoter(id []byte) []byte {
	r := g.node.Load()
	if r == nil {
		return id
	}
	for _, s := range r.GetConfiguration().Configuration().Servers {
		if s.Suffrage == raft.Voter {
			return []byte(s.ID)
		}
	}
	return id
}
