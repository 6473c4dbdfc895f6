package node

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

func TestClusterStats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openTrio(t)
		name, leader := c.leader()
		f := c.followers()
		before := leader.ClusterStats().ForwardsReceived
		mustAcquire(t, f[0], acquireCmd("db", "a", 0), locktable.Granted)
		if got := leader.ClusterStats(); !got.Leads || !got.HasLeader || got.LeaderContact != 0 || got.ForwardsReceived != before+1 {
			t.Errorf("the leader: %+v", got)
		}
		for _, n := range c.nodes {
			if got := n.ClusterStats(); !got.HasLeader || got.Term == 0 || got.Voters != 3 || got.NonVoters != 0 || got.LastIndex < got.CommitIndex || got.CommitIndex == 0 {
				t.Errorf("%s: %+v", n.store.Name(), got)
			}
		}
		if got := f[0].ClusterStats(); got.Leads || got.ForwardsSent == 0 || got.LeaderContact > time.Second {
			t.Errorf("a follower: %+v", got)
		}
		changes := f[0].ClusterStats().LeaderChanges + f[1].ClusterStats().LeaderChanges
		stood := f[0].ClusterStats().Candidacies + f[1].ClusterStats().Candidacies
		c.isolate(c.members[name], true)
		delete(c.nodes, name)
		c.leader()
		time.Sleep(time.Second) // virtual
		if got := f[0].ClusterStats().LeaderChanges + f[1].ClusterStats().LeaderChanges; got != changes+2 {
			t.Errorf("both others learn of the new leader: %d changes, before %d", got, changes)
		}
		if got := f[0].ClusterStats().Candidacies + f[1].ClusterStats().Candidacies; got <= stood {
			t.Errorf("nobody stood for election: %d, before %d", got, stood)
		}
		c.nodes[name] = leader
	})
}

func TestClusterStatsOfOne(t *testing.T) {
	n := open(t, "")
	if got := n.ClusterStats(); !got.Leads || !got.HasLeader || got.Voters != 1 || got.LeaderContact != 0 || got.Channel.Open != 0 {
		t.Errorf("%+v", got)
	}
}
