package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/doubledutch-lock/doubledutch/internal/command"
)

// A node can be added from the side of the cluster: it waits, knowing nobody, until the leader comes and tells it to which
// cluster it belongs. From then on it is as a node that has joined.

// meetTimeout bounds each of the two calls to a node that waits, so that both fit into the time that a member has for asking
// the leader.
const meetTimeout = 1500 * time.Millisecond

// introducer is a transport that reaches nodes which belong to no cluster.
type introducer interface {
	// Meet is Call to a node that may belong to no cluster yet.
	Meet(ctx context.Context, addr string, request []byte) ([]byte, error)
}

// adoption is what a waiting node learns.
type adoption struct {
	cluster string
	taken   chan error // gets one value
}

// awaitAdoption returns when the leader of a cluster has added this node.
func (n *Node) awaitAdoption(ctx context.Context) error {
	n.config.Logger.Info("waiting to be added to a cluster (doubledutch cluster add)", "name", n.store.Name(), "address", string(n.address()))
	n.waiting.Store(true)
	defer n.waiting.Store(false)
	select {
	case a := <-n.adoptions:
		err := n.store.SetCluster(a.cluster)
		a.taken <- err
		return err
	case <-ctx.Done():
		return fmt.Errorf("no cluster has added this node: %w", ctx.Err())
	case <-n.stop:
		return ErrStopping
	}
}

// answerAdopt tells a leader whether this node belongs to its cluster now.
func (n *Node) answerAdopt(ctx context.Context, from Peer, a *command.Adopt) *command.PeerResponse {
	me := n.self()
	switch {
	case !n.waiting.Load():
		return peerError(command.PeerError_REFUSED, notWaiting(me.Name))
	case serverID(a.GetName(), a.GetInstance()) != serverID(me.Name, me.Instance):
		return peerError(command.PeerError_REFUSED, "another node is meant")
	case from.ClusterID == "" || from.ClusterID != a.GetClusterId():
		return peerError(command.PeerError_REFUSED, "a node is added by members of the cluster only")
	}
	ad := adoption{cluster: a.GetClusterId(), taken: make(chan error, 1)}
	select {
	case n.adoptions <- ad:
	case <-ctx.Done():
		return peerError(command.PeerError_UNKNOWN, ctx.Err().Error())
	}
	if err := <-ad.taken; err != nil {
		return peerError(command.PeerError_REFUSED, err.Error())
	}
	return &command.PeerResponse{Op: &command.PeerResponse_Adopt{Adopt: &command.Adopted{}}}
}

func notWaiting(name string) string {
	return fmt.Sprintf("node %s does not wait to be added; start it with an empty data directory and --join wait", name)
}

// add takes the node that waits at addr into the cluster. It is called on the leader. When it returns nil, the node is a
// member; should it not have learned of it, the steward tells it again.
func (n *Node) add(name, addr string) error {
	if err := CheckName(name); err != nil {
		return &RefusedError{err.Error()}
	}
	res, err := n.meet(addr, &command.PeerRequest{Op: &command.PeerRequest_Hello{Hello: &command.Hello{}}})
	if err != nil {
		return refuse("no node answers at %s (%v); start it with --name %s and --join wait, then add it", addr, err, name)
	}
	g := res.GetHello()
	switch {
	case g.GetName() != name:
		return refuse("at %s there is node %s, not %s", addr, g.GetName(), name)
	case !g.GetWaiting() && n.hasMember(serverID(name, g.GetInstance())):
		return nil // it was added before
	case !g.GetWaiting():
		return &RefusedError{notWaiting(name)}
	}
	m := &command.Member{Name: name, Instance: g.GetInstance(), Address: addr}
	if err := n.addMember(m, g.GetLogVersion()); err != nil {
		return err
	}
	n.config.Logger.Info("a node was added", "name", name, "address", addr)
	if err := n.adopt(m); err != nil {
		n.config.Logger.Warn("a node that was added has not learned of it yet", "name", name, "error", err)
	}
	return nil
}

func (n *Node) hasMember(id raft.ServerID) bool {
	s, ok := n.memberNamed(nameOf(id))
	return ok && s.ID == id
}

// adopt tells a node that was added to which cluster it belongs.
func (n *Node) adopt(m *command.Member) error {
	_, err := n.meet(m.GetAddress(), &command.PeerRequest{Op: &command.PeerRequest_Adopt{Adopt: &command.Adopt{
		ClusterId: n.store.ClusterID(), Name: m.GetName(), Instance: m.GetInstance(),
	}}})
	return err
}

// meet asks a node that may belong to no cluster.
func (n *Node) meet(addr string, r *command.PeerRequest) (*command.PeerResponse, error) {
	t, ok := n.transport.(introducer)
	if !ok {
		return nil, errors.New("this server has no channel to other nodes; start it with --cluster-listen")
	}
	ctx, cancel := context.WithTimeout(context.Background(), meetTimeout)
	defer cancel()
	return n.askBy(ctx, t.Meet, addr, r)
}

// Add takes the node of that name, which waits at addr, into the cluster.
func (n *Node) Add(name, addr string) error {
	return n.changeMembers(&command.Change{Kind: command.Change_ADD, Name: name, Address: addr})
}
