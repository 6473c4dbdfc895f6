package node

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

// A leader makes a node a voter, which another one does not learn of, and is lost. The other two are a majority.
func TestVoteForWhoBecameAVoterUnheard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openTrio(t)
		first, leader := c.leader()
		var names []string
		for name := range c.nodes {
			if name != first {
				names = append(names, name)
			}
		}
		unheard, late := names[0], names[1]
		var s raft.Server
		for _, o := range leader.servers() {
			if nameOf(o.ID) == unheard {
				s = o
			}
		}
		if err := leader.raft.DemoteVoter(s.ID, 0, changeTimeout).Error(); err != nil {
			t.Fatal(err)
		}
		for m, ok := c.nodes[late].memberNamed(unheard); !ok || m.Suffrage == raft.Voter; m, ok = c.nodes[late].memberNamed(unheard) {
			time.Sleep(10 * time.Millisecond)
		}
		c.isolate(c.members[late], true)
		if err := leader.raft.AddVoter(s.ID, s.Address, 0, changeTimeout).Error(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(200 * time.Millisecond) // the new voter learns that it is committed
		c.isolate(c.members[first], true)
		c.isolate(c.members[late], false)
		time.Sleep(10 * time.Second) // virtual
		if m, _ := c.nodes[late].memberNamed(unheard); m.Suffrage != raft.Voter {
			t.Error("the late node has not learned of the new voter")
		}
		mustAcquire(t, c.nodes[unheard], acquireCmd("db", "a", 0), locktable.Granted)
	})
}
