package node

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
)

// Servers of several versions can be members of one cluster while it is upgraded. The log says up to which version commands
// may be used, the level: the leader raises it to what the oldest member knows, and whoever knows less is not taken in any
// more. See docs/adr/0011.

const (
	// How long the members may take to say what they know, and the log to raise the level.
	raiseTimeout = 5 * time.Second
	// A command that every version has known.
	firstVersion = 1
)

// NotYetError refuses a command that not every member of the cluster knows. It wraps ErrNotYetSupported.
type NotYetError struct {
	// Behind says for each member that is in the way why, as far as this node knows.
	Behind []string
}

func (e *NotYetError) Error() string {
	if len(e.Behind) == 0 {
		return "not every node of the cluster runs a version that knows this"
	}
	return strings.Join(e.Behind, ", and ")
}

// Unwrap returns the sentinel.
func (e *NotYetError) Unwrap() error { return ErrNotYetSupported }

// checkLevel refuses what some member may not understand. This node's own level may lag behind the leader's for a moment.
func (n *Node) checkLevel(c *command.Command) error {
	if n.schema.Of(c) <= n.fsm.level.Load() {
		return nil
	}
	e := &NotYetError{}
	if behind := n.behind.Load(); behind != nil {
		e.Behind = *behind
	}
	return e
}

// behindOf says who of the members keeps the level below want.
func behindOf(members []MemberStatus, want uint32) []string {
	var behind []string
	for i := range members {
		switch m := &members[i]; {
		case !m.Reachable:
			behind = append(behind, fmt.Sprintf("node %s does not say which version it runs", m.Name))
		case m.Knows < want:
			behind = append(behind, fmt.Sprintf("node %s runs an older version", m.Name))
		}
	}
	return behind
}

// raise asks all members which version they know, and on the leader lifts the level to what all of them do. With nothing to
// gain it asks nobody.
func (n *Node) raise(ctx context.Context) error {
	want, level := n.schema.Version(), n.fsm.level.Load()
	if level >= want {
		n.behind.Store(nil)
		return nil
	}
	_, term, leads := n.clock.read()
	members := n.Members(ctx)
	behind := behindOf(members, want)
	n.behind.Store(&behind)
	common := want
	for i := range members {
		common = min(common, members[i].Knows) // 0: it did not answer
	}
	if !leads || common <= level {
		return nil
	}
	return n.raiseTo(ctx, members, common, term)
}

// raiseTo raises the level after asking the members, which was done in term, unless somebody has come in between.
func (n *Node) raiseTo(ctx context.Context, asked []MemberStatus, level uint32, term uint64) error {
	n.membership.Lock()
	defer n.membership.Unlock()
	if !n.sameMembers(asked) {
		return nil
	}
	if err := n.proposeRaise(ctx, level, term); err != nil {
		return err
	}
	n.config.Logger.Info("all nodes of the cluster know a newer version; its commands are used from now on", "level", level)
	return n.configure(ctx)
}

// sameMembers tells whether those that were asked are the members still.
func (n *Node) sameMembers(asked []MemberStatus) bool {
	servers := n.servers()
	return len(servers) == len(asked) && !slices.ContainsFunc(asked, func(m MemberStatus) bool {
		s, ok := n.memberNamed(m.Name)
		return !ok || s.ID != serverID(m.Name, m.Instance)
	})
}

// proposeRaise raises the level, if this node still leads in the term in which it asked: another leader may have taken in
// nodes that were not.
func (n *Node) proposeRaise(ctx context.Context, level uint32, term uint64) error {
	p := n.proposals.get(command.FromRaise(&command.Raise{Version: level}))
	p.term = term
	if err := n.queue.put(p, 2*maxPending); err != nil {
		n.proposals.put(p)
		return err
	}
	_, err := n.await(ctx, p)
	return err
}

// tryRaise is raise for those who try again later.
func (n *Node) tryRaise() {
	ctx, cancel := context.WithTimeout(context.Background(), raiseTimeout)
	defer cancel()
	if err := n.raise(ctx); err != nil {
		n.config.Logger.Warn("the level of the cluster was not raised yet", "error", err)
	}
}

// checkKnows refuses a node that could not read the log of this cluster.
func (n *Node) checkKnows(name string, knows uint32) error {
	if level := n.fsm.level.Load(); max(knows, firstVersion) < level {
		return refuse("the cluster works at level %d, and node %s knows up to %d; start it with a newer version of the program",
			level, name, max(knows, firstVersion))
	}
	return nil
}
