package peer

import (
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// raftNode is a member of a cluster with stores in memory.
type raftNode struct {
	raft    *raft.Raft
	applied chan string
	trans   *raft.NetworkTransport
}

func (n *raftNode) Apply(l *raft.Log) any               { n.applied <- string(l.Data); return nil }
func (n *raftNode) Snapshot() (raft.FSMSnapshot, error) { return nil, raft.ErrNothingNewToSnapshot }
func (n *raftNode) Restore(r io.ReadCloser) error       { return r.Close() }

func startRaftNode(t *testing.T, p *Peer, name string, members raft.Configuration) *raftNode {
	t.Helper()
	n := &raftNode{applied: make(chan string, 100)}
	n.trans = raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: p.RaftLayer(), MaxPool: 3, Timeout: 2 * time.Second, Logger: hclog.NewNullLogger(),
	})
	c := raft.DefaultConfig()
	c.LocalID, c.Logger = raft.ServerID(name), hclog.NewNullLogger()
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = 300*time.Millisecond, 300*time.Millisecond, 200*time.Millisecond
	store := raft.NewInmemStore()
	snaps := raft.NewInmemSnapshotStore()
	if err := raft.BootstrapCluster(c, store, store, snaps, n.trans, members); err != nil {
		t.Fatal(err)
	}
	var err error
	if n.raft, err = raft.NewRaft(c, n, store, store, snaps, n.trans); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = n.raft.Shutdown().Error()
		_ = n.trans.Close()
	})
	return n
}

func TestRaftElectsAndReplicates(t *testing.T) {
	names := []string{"n1", "n2", "n3"}
	files := certs(t, names...)
	var members raft.Configuration
	peers := map[string]*Peer{}
	for _, name := range names {
		peers[name] = start(t, name, withTLS(files[name]))
		members.Servers = append(members.Servers, raft.Server{
			ID: raft.ServerID(name), Address: raft.ServerAddress(peers[name].Addr()),
		})
	}
	nodes := map[string]*raftNode{}
	for _, name := range names {
		nodes[name] = startRaftNode(t, peers[name], name, members)
	}
	first := leaderOf(t, nodes)
	apply(t, nodes, first, "a")
	_ = nodes[first].raft.Shutdown().Error()
	_ = peers[first].Close()
	delete(nodes, first)
	second := leaderOf(t, nodes)
	apply(t, nodes, second, "b")
	if got := mustCall(t, peers[second], string(addressOf(members, other(names, first, second))), "x"); got != "x" {
		t.Errorf("a call beside raft: %q", got)
	}
}

func leaderOf(t *testing.T, nodes map[string]*raftNode) string {
	t.Helper()
	var leader string
	eventually(t, "a leader", func() bool {
		for name, n := range nodes {
			if n.raft.State() == raft.Leader && n.raft.VerifyLeader().Error() == nil {
				leader = name
				return true
			}
		}
		return false
	})
	return leader
}

// apply has 20 entries replicated and waits until all nodes have applied them.
func apply(t *testing.T, nodes map[string]*raftNode, leader, prefix string) {
	t.Helper()
	for i := range 20 {
		if err := nodes[leader].raft.Apply(fmt.Appendf(nil, "%s%d", prefix, i), 5*time.Second).Error(); err != nil {
			t.Fatal(err)
		}
	}
	for name, n := range nodes {
		for i := range 20 {
			select {
			case got := <-n.applied:
				if want := fmt.Sprintf("%s%d", prefix, i); got != want {
					t.Fatalf("%s applies %q, want %q", name, got, want)
				}
			case <-patience(t).Done():
				t.Fatalf("%s does not apply %s%d", name, prefix, i)
			}
		}
	}
}

func other(names []string, a, b string) string {
	for _, n := range names {
		if n != a && n != b {
			return n
		}
	}
	return ""
}

func addressOf(c raft.Configuration, name string) raft.ServerAddress {
	for _, s := range c.Servers {
		if string(s.ID) == name {
			return s.Address
		}
	}
	return ""
}
