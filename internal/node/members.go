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
	changeTimeout = 10 * time.Second
	stewardCheck  = 500 * time.Millisecond
	// A joining node becomes a voter when it lags behind by at most so many entries, in two checks in a row.
	caughtUp = 256
)

func splitID(id raft.ServerID) (name, instance string) {
	name, instance, _ = strings.Cut(string(id), ".")
	return name, instance
}

// memberNamed returns the member of that name.
func (n *Node) memberNamed(name string) (raft.Server, bool) {
	for _, s := range n.servers() {
		if nameOf(s.ID) == name {
			return s, true
		}
	}
	return raft.Server{}, false
}

// answerJoin takes a node into the cluster, as a non-voter until it has caught up.
func (n *Node) answerJoin(from Peer, j *command.Join) *command.PeerResponse {
	m := j.GetMember()
	if err := n.addMember(m, j.GetLogVersion()); err != nil {
		return peerRefusal(err)
	}
	n.config.Logger.Info("a node joins", "name", m.GetName(), "address", m.GetAddress(), "asked_by", from.Name)
	return &command.PeerResponse{Op: &command.PeerResponse_Join{Join: &command.Joined{ClusterId: n.store.ClusterID()}}}
}

// addMember takes a node in that knows versions of the log up to knows.
func (n *Node) addMember(m *command.Member, knows uint32) error {
	n.membership.Lock()
	defer n.membership.Unlock()
	if err := n.checkKnows(m.GetName(), knows); err != nil {
		return err
	}
	if err := CheckName(m.GetName()); err != nil {
		return &RefusedError{err.Error()}
	}
	if len(m.GetInstance()) < instanceInID || m.GetAddress() == "" {
		return &RefusedError{"a member has a name, an instance and an address"}
	}
	f := n.raft.GetConfiguration()
	if err := f.Error(); err != nil {
		return changeError(err)
	}
	id := serverID(m.GetName(), m.GetInstance())
	for _, s := range f.Configuration().Servers {
		switch {
		case s.ID == id && string(s.Address) == m.GetAddress():
			return nil // it asked before
		case s.ID != id && nameOf(s.ID) == m.GetName():
			return refuse("the cluster has a node %s with other data; remove it first (doubledutch cluster remove %s)",
				m.GetName(), m.GetName())
		case s.ID != id && string(s.Address) == m.GetAddress():
			return refuse("the address %s belongs to node %s; remove that first", m.GetAddress(), nameOf(s.ID))
		case s.ID == id && s.Suffrage == raft.Voter:
			return changeError(n.raft.AddVoter(id, raft.ServerAddress(m.GetAddress()), f.Index(), changeTimeout).Error())
		}
	}
	return changeError(n.raft.AddNonvoter(id, raft.ServerAddress(m.GetAddress()), f.Index(), changeTimeout).Error())
}

func refuse(format string, args ...any) error { return &RefusedError{fmt.Sprintf(format, args...)} }

// changeError tells what certainly did not happen from what may still happen.
func changeError(err error) error {
	if err == nil {
		return nil
	}
	return proposeError(err)
}

// change carries out a change of membership. It is called on the leader.
func (n *Node) change(c *command.Change) error {
	if !n.asking.enter() {
		return ErrStopping
	}
	defer n.asking.leave()
	if c.GetKind() == command.Change_ADD {
		return n.add(c.GetName(), c.GetAddress())
	}
	if c.GetKind() != command.Change_TRANSFER {
		n.membership.Lock()
		defer n.membership.Unlock()
	}
	s, ok := n.memberNamed(c.GetName())
	if !ok && c.GetName() != "" {
		// Its removal may have begun only, and come to nothing with this leader.
		if err := n.raft.Barrier(changeTimeout).Error(); err != nil {
			return changeError(err)
		}
		return refuse("there is no node %s in this cluster", c.GetName())
	}
	switch c.GetKind() {
	case command.Change_REMOVE:
		return n.remove(s)
	case command.Change_PROMOTE:
		return changeError(n.raft.AddVoter(s.ID, s.Address, 0, changeTimeout).Error())
	case command.Change_TRANSFER:
		return n.transfer(s, ok)
	}
	return refuse("this node does not know the change")
}

// transfer hands leadership to s, or to the best member if none is named.
func (n *Node) transfer(s raft.Server, named bool) error {
	switch {
	case len(n.servers()) == 1:
		return refuse("there is nobody else to lead")
	case !named:
		return changeError(n.raft.LeadershipTransfer().Error())
	case s.ID == n.selfID():
		return nil
	case s.Suffrage != raft.Voter:
		return refuse("node %s does not vote yet, and can't lead", nameOf(s.ID))
	}
	return changeError(n.raft.LeadershipTransferToServer(s.ID, s.Address).Error())
}

// remove takes s out of the cluster, unless the cluster would be left without a voter.
func (n *Node) remove(s raft.Server) error {
	voters := 0
	for _, o := range n.servers() {
		if o.Suffrage == raft.Voter && o.ID != s.ID {
			voters++
		}
	}
	if voters == 0 {
		return refuse("the last voter of a cluster can't be removed")
	}
	return changeError(n.raft.RemoveServer(s.ID, 0, changeTimeout).Error())
}

// steward raises the level and promotes joining nodes that have caught up, while this node leads.
func (n *Node) steward() {
	t := time.NewTicker(stewardCheck)
	defer t.Stop()
	ready := make(map[raft.ServerID]int)
	for {
		select {
		case <-n.stop:
			return
		case <-t.C:
			n.tryRaise()
			if !n.isLeader() {
				clear(ready)
				continue
			}
			n.correctAddress()
			n.promoteReady(ready)
		}
	}
}

// correctAddress writes down where this node is reached, if it began as a single server or has moved.
func (n *Node) correctAddress() {
	for _, s := range n.servers() {
		if s.ID != n.selfID() || s.Address == n.address() {
			continue
		}
		if err := n.addVoter(s, n.address()); err != nil {
			n.config.Logger.Warn("the new address of this node was not written down yet", "address", n.address(), "error", err)
		}
	}
}

func (n *Node) promoteReady(ready map[raft.ServerID]int) {
	for _, s := range n.servers() {
		if s.Suffrage != raft.Nonvoter {
			delete(ready, s.ID)
			continue
		}
		if !n.hasCaughtUp(s) {
			ready[s.ID] = 0
			continue
		}
		if ready[s.ID]++; ready[s.ID] < 2 {
			continue
		}
		if err := n.addVoter(s, s.Address); err != nil {
			n.config.Logger.Warn("a node that has caught up was not made a voter yet", "name", nameOf(s.ID), "error", err)
			continue
		}
		n.config.Logger.Info("a node has caught up and votes now", "name", nameOf(s.ID))
	}
}

var errChanged = errors.New("the members have changed meanwhile")

// addVoter makes the member s a voter at an address, unless it is not the member any more that it was: it would be taken in again
// although somebody has just removed it.
func (n *Node) addVoter(s raft.Server, address raft.ServerAddress) error {
	n.membership.Lock()
	defer n.membership.Unlock()
	if !slices.Contains(n.servers(), s) {
		return errChanged
	}
	return n.raft.AddVoter(s.ID, address, 0, changeTimeout).Error()
}

func (n *Node) hasCaughtUp(s raft.Server) bool {
	ctx, cancel := context.WithTimeout(context.Background(), stewardCheck)
	defer cancel()
	g, err := n.hello(ctx, string(s.Address))
	if err != nil {
		// It was added, and has not learned of it, or has been started again before it got a log.
		name, instance := splitID(s.ID)
		if n.adopt(&command.Member{Name: name, Instance: instance, Address: string(s.Address)}) == nil {
			n.config.Logger.Info("a node has learned that it was added", "name", name)
		}
	}
	return err == nil && g.GetAppliedIndex()+caughtUp >= n.fsm.applied.Load() && g.GetAppliedIndex() > 0
}

// changeMembers asks the leader, be it this node or another, for a change, and bears an election: who changes the members often
// does so because one of them has just died.
func (n *Node) changeMembers(c *command.Change) error {
	return n.bearElection(context.Background(), func() error {
		if n.isLeader() {
			return n.change(c)
		}
		_, err := n.ask(context.Background(), &command.PeerRequest{Op: &command.PeerRequest_Change{Change: c}})
		return err
	})
}

// Remove takes the member of that name out of the cluster; it stops when it learns of it.
func (n *Node) Remove(name string) error {
	return n.changeMembers(&command.Change{Kind: command.Change_REMOVE, Name: name})
}

// Promote makes a non-voter a voter without waiting for it to catch up.
func (n *Node) Promote(name string) error {
	return n.changeMembers(&command.Change{Kind: command.Change_PROMOTE, Name: name})
}

// Transfer hands leadership to the member of that name, or to the best one if it is empty.
func (n *Node) Transfer(name string) error {
	return n.changeMembers(&command.Change{Kind: command.Change_TRANSFER, Name: name})
}

// MemberStatus tells about one member.
type MemberStatus struct {
	Name, Instance, Address string
	Voter, Leader, Self     bool
	// Whether it answered; the rest is from its answer.
	Reachable    bool
	AppliedIndex uint64
	LastContact  time.Duration // since it heard from the leader; 0 for the leader
	DiskFull     bool
	Version      string // of the program
	Knows        uint32 // the newest version of the log that it knows
}

// Members returns the members as this node knows them, each asked how it is. It takes as long as the slowest answer, at most a second.
func (n *Node) Members(ctx context.Context) []MemberStatus {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	servers := n.servers()
	out := make([]MemberStatus, len(servers))
	_, leader := n.raft.LeaderWithID()
	done := make(chan int)
	for i, s := range servers {
		m := &out[i]
		m.Name, m.Instance = splitID(s.ID)
		m.Address, m.Voter, m.Leader, m.Self = string(s.Address), s.Suffrage == raft.Voter, s.ID == leader, s.ID == n.selfID()
		go func() {
			n.fillStatus(ctx, m)
			done <- i
		}()
	}
	for range servers {
		<-done
	}
	return out
}

func (n *Node) fillStatus(ctx context.Context, m *MemberStatus) {
	g := n.greeting()
	if !m.Self {
		var err error
		if g, err = n.hello(ctx, m.Address); err != nil {
			return
		}
	}
	m.Reachable, m.AppliedIndex, m.DiskFull = true, g.GetAppliedIndex(), g.GetDiskFull()
	m.Version, m.Knows = g.GetVersion(), max(g.GetLogVersion(), firstVersion)
	m.LastContact = time.Duration(g.GetLastContact())
}
