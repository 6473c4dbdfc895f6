package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/raft"

	"github.com/doubledutch-lock/doubledutch/internal/command"
)

const (
	// A node that has not heard from a leader for so long asks the others whether it still belongs to them.
	lonelyAfter = 3 * time.Second
	lonelyCheck = time.Second
)

// watchMembership ends the node when it learns that it was removed: from the log, or from a leader that does not admit it.
func (n *Node) watchMembership() {
	t := time.NewTicker(lonelyCheck)
	defer t.Stop()
	member := false
	var known []raft.Server
	for {
		select {
		case <-n.stop:
			return
		case <-t.C:
		}
		if servers := n.servers(); !slices.Equal(servers, known) {
			known = servers
			n.transport.Recheck()
		}
		in := n.isMember()
		member = member || in
		lonely := n.isLonely()
		if lonely {
			n.tellAddress()
		}
		if member && !in || lonely && n.isUnwanted() {
			n.config.Fatal(fmt.Errorf("%w; start it with an empty data directory and --join to have it back", ErrRemoved))
			return
		}
	}
}

func (n *Node) isMember() bool {
	for _, s := range n.servers() {
		if s.ID == n.selfID() {
			return true
		}
	}
	return false
}

// isLonely tells whether no leader has been heard of for a while.
func (n *Node) isLonely() bool {
	return !n.isLeader() && time.Since(n.raft.LastContact()) >= lonelyAfter
}

// tellAddress tells the leader where this node is reached, if the others look for it elsewhere. (A leader that has moved
// corrects its own address: see steward.)
func (n *Node) tellAddress() {
	moved := func(s raft.Server) bool { return s.ID == n.selfID() && s.Address != n.address() }
	if !slices.ContainsFunc(n.servers(), moved) {
		return
	}
	for _, addr := range n.others() {
		ctx, cancel := context.WithTimeout(context.Background(), lonelyCheck)
		_, err := n.tryJoin(ctx, addr)
		cancel()
		if err == nil {
			n.config.Logger.Info("the cluster was told the new address of this node", "address", n.address())
			return
		}
	}
}

// isUnwanted asks the members whether they know this node: a leader would not admit it, and a follower of one would not
// count it.
func (n *Node) isUnwanted() bool {
	for _, addr := range n.others() {
		ctx, cancel := context.WithTimeout(context.Background(), lonelyCheck)
		g, err := n.hello(ctx, addr)
		cancel()
		if err == nil && g.GetMember() && g.GetLeader() != "" && !knows(g, n.self()) && n.mayJudge(g) {
			return true
		}
		if errors.Is(err, ErrRefusedByPeer) && strings.Contains(err.Error(), removedSentence) {
			return true
		}
	}
	return false
}

// mayJudge tells whether the node that sent g is to be believed when it does not know this node: the leader is, and who has
// applied all of this node's log, in which it is a member. A follower that lags behind may not have heard of this node yet.
func (n *Node) mayJudge(g *command.Greeting) bool {
	return g.GetLastContact() == 0 || n.isMember() && g.GetAppliedIndex() >= n.raft.LastIndex()
}

// others returns where other members may be: those that the log names, the last leader, and those that this node was
// started with, since it may be removed before it has got a log.
func (n *Node) others() []string {
	addrs := []string{n.leaderAddr(), n.config.Cluster.Join}
	for _, s := range n.servers() {
		addrs = append(addrs, string(s.Address))
	}
	for _, addr := range n.config.Cluster.Members {
		addrs = append(addrs, addr)
	}
	slices.Sort(addrs)
	return slices.DeleteFunc(slices.Compact(addrs), func(a string) bool { return a == "" || a == string(n.address()) })
}
