package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"github.com/doubledutch-lock/doubledutch/internal/command"
)

const (
	formingCheck = 200 * time.Millisecond
	formingAsk   = 2 * time.Second
	// How often a node that waits to be formed says so.
	formingLog = 10 * time.Second
)

// enter makes a node without a log a member: of a new cluster of its own, of one that begins with others, or of one that
// runs. It returns the first configuration if this node has to write it, and nil if it will learn it from the leader.
func (n *Node) enter(ctx context.Context) (*raft.Configuration, error) {
	switch c := n.config.Cluster; {
	case c == nil:
		return n.alone(), nil
	case c.Join != "":
		return nil, n.join(ctx, c.Join)
	case c.Await:
		return nil, n.awaitAdoption(ctx)
	case len(c.Members) > 0:
		return n.form(ctx, c.Members)
	default:
		return n.alone(), nil
	}
}

func (n *Node) alone() *raft.Configuration {
	return &raft.Configuration{Servers: []raft.Server{{ID: n.selfID(), Address: n.address()}}}
}

// form begins a cluster. The member whose name comes first waits until all are there and empty, and writes the first
// configuration; the others wait until it tells them to which cluster they belong. If any of them has a log already, this
// node is not new but has lost its disk, and must not begin anything (T22).
func (n *Node) form(ctx context.Context, members map[string]string) (*raft.Configuration, error) {
	names := make([]string, 0, len(members))
	for name := range members {
		names = append(names, name)
	}
	slices.Sort(names)
	if !slices.Contains(names, n.store.Name()) {
		return nil, fmt.Errorf("this node, %s, is not among the members of the new cluster", n.store.Name())
	}
	first := names[0] == n.store.Name()
	tellAgain := time.NewTicker(formingLog)
	defer tellAgain.Stop()
	for {
		others, missing, err := n.askMembers(ctx, names, members)
		if err != nil {
			return nil, err
		}
		if id := n.adopted(others); id != "" {
			return nil, n.store.SetCluster(id)
		}
		if first && len(missing) == 0 {
			return n.first(names, members, others), nil
		}
		select {
		case <-tellAgain.C:
			n.config.Logger.Info("waiting for the other members of the new cluster", "missing", missing)
		case <-ctx.Done():
			return nil, fmt.Errorf("the cluster was not formed, missing are %v: %w", missing, ctx.Err())
		case <-n.stop:
			return nil, ErrStopping
		case <-time.After(formingCheck):
		}
	}
}

// askMembers greets all others. It fails if one is a member of a cluster that does not know this node.
func (n *Node) askMembers(ctx context.Context, names []string, members map[string]string) (map[string]*command.Greeting, []string, error) {
	others := make(map[string]*command.Greeting)
	var missing []string
	for _, name := range names {
		if name == n.store.Name() {
			continue
		}
		ask, cancel := context.WithTimeout(ctx, formingAsk)
		g, err := n.hello(ask, members[name])
		cancel()
		switch {
		case err != nil:
			missing = append(missing, name)
			continue
		case g.GetName() != name:
			return nil, nil, fmt.Errorf("at %s there is node %s, not %s", members[name], g.GetName(), name)
		case g.GetMember() && !knows(g, n.self()):
			return nil, nil, fmt.Errorf("node %s belongs to a running cluster, but this data directory is empty: to replace a node "+
				"that has lost its disk, remove it from the cluster and start it with --join %s", name, members[name])
		}
		others[name] = g
	}
	return others, missing, nil
}

// knows tells whether the cluster of g has this node, with this data directory, as a member.
func knows(g *command.Greeting, me Peer) bool {
	for _, m := range g.GetMembers() {
		if serverID(m.GetName(), m.GetInstance()) == serverID(me.Name, me.Instance) {
			return true
		}
	}
	return false
}

// adopted returns the id of the cluster that already counts this node among its members.
func (n *Node) adopted(others map[string]*command.Greeting) string {
	for _, g := range others {
		if g.GetMember() && knows(g, n.self()) {
			return g.GetClusterId()
		}
	}
	return ""
}

// first is the first configuration of the cluster that this node begins.
func (n *Node) first(names []string, members map[string]string, others map[string]*command.Greeting) *raft.Configuration {
	c := &raft.Configuration{}
	for _, name := range names {
		id := n.selfID()
		if g := others[name]; g != nil {
			id = serverID(name, g.GetInstance())
		}
		c.Servers = append(c.Servers, raft.Server{ID: id, Address: raft.ServerAddress(members[name])})
	}
	return c
}

// join asks the leader of a running cluster, found through the member at addr, to take this node in.
func (n *Node) join(ctx context.Context, addr string) error {
	var last error
	for {
		id, err := n.tryJoin(ctx, addr)
		if err == nil {
			return n.store.SetCluster(id)
		}
		if r := (*RefusedError)(nil); errors.As(err, &r) {
			return fmt.Errorf("the cluster does not take this node: %w", r)
		}
		if last == nil || last.Error() != err.Error() {
			n.config.Logger.Info("not joined yet", "through", addr, "error", err)
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("could not join through %s (%w): %w", addr, last, ctx.Err())
		case <-n.stop:
			return ErrStopping
		case <-time.After(formingCheck):
		}
	}
}

func (n *Node) tryJoin(ctx context.Context, addr string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	g, err := n.hello(ctx, addr)
	if err != nil {
		return "", err
	}
	leader := ""
	for _, m := range g.GetMembers() {
		if string(serverID(m.GetName(), m.GetInstance())) == g.GetLeader() {
			leader = m.GetAddress()
		}
	}
	if leader == "" {
		return "", errors.New("that node knows no leader at the moment")
	}
	me := n.self()
	res, err := n.askAt(ctx, leader, &command.PeerRequest{Op: &command.PeerRequest_Join{Join: &command.Join{
		Member: &command.Member{Name: me.Name, Instance: me.Instance, Address: string(n.address())}, LogVersion: n.schema.Version(),
	}}})
	if err != nil {
		return "", err
	}
	return res.GetJoin().GetClusterId(), nil
}
