package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

// network connects nodes in memory and can cut any of them off.
type network struct {
	t *testing.T

	mu    sync.Mutex // guards all below
	links map[string]*link
	cut   map[string]bool // addresses that nobody reaches, and that reach nobody
}

// link is a node's end of the network.
type link struct {
	net   *network
	addr  string
	hooks Hooks
	raft  *raft.InmemTransport
}

func newNetwork(t *testing.T) *network {
	return &network{t: t, links: map[string]*link{}, cut: map[string]bool{}}
}

func (w *network) listen(addr string) func(Hooks) (Transport, error) {
	return func(h Hooks) (Transport, error) {
		_, tr := raft.NewInmemTransportWithTimeout(raft.ServerAddress(addr), 500*time.Millisecond)
		l := &link{net: w, addr: addr, hooks: h, raft: tr}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.links[addr] = l
		w.wire()
		return l, nil
	}
}

// wire connects the Raft transports of all that are not cut off.
func (w *network) wire() {
	for a, from := range w.links {
		for b, to := range w.links {
			if a == b {
				continue
			}
			if w.cut[a] || w.cut[b] {
				from.raft.Disconnect(raft.ServerAddress(b))
			} else {
				from.raft.Connect(raft.ServerAddress(b), to.raft)
			}
		}
	}
}

func (w *network) isolate(addr string, cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut[addr] = cut
	w.wire()
}

func (l *link) Raft(hclog.Logger) raft.Transport { return l.raft }
func (l *link) Addr() string                     { return l.addr }
func (l *link) Recheck()                         {}

func (l *link) Close() error {
	l.net.mu.Lock()
	defer l.net.mu.Unlock()
	if l.net.links[l.addr] == l {
		delete(l.net.links, l.addr)
		for _, other := range l.net.links {
			other.raft.Disconnect(raft.ServerAddress(l.addr))
		}
	}
	return l.raft.Close()
}

func (l *link) Call(ctx context.Context, addr string, request []byte) ([]byte, error) {
	l.net.mu.Lock()
	to, cut := l.net.links[addr], l.net.cut[addr] || l.net.cut[l.addr]
	l.net.mu.Unlock()
	if to == nil || cut {
		return nil, ErrNotDelivered
	}
	if err := to.hooks.Admit(l.hooks.Self(), l.hooks.Self().ClusterID == ""); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRefusedByPeer, err)
	}
	return to.hooks.Handle(ctx, l.hooks.Self(), request)
}

// Meet reaches nodes that belong to no cluster.
func (l *link) Meet(ctx context.Context, addr string, request []byte) ([]byte, error) {
	l.net.mu.Lock()
	to, cut := l.net.links[addr], l.net.cut[addr] || l.net.cut[l.addr]
	l.net.mu.Unlock()
	if to == nil || cut {
		return nil, ErrNotDelivered
	}
	return to.hooks.Handle(ctx, l.hooks.Self(), request)
}

// trio is a cluster of three in memory.
type trio struct {
	*network
	members map[string]string
	nodes   map[string]*Node
	sim     *Simulation // of all nodes, or nil
}

func openTrio(t *testing.T) *trio { return openTrioOf(t, nil) }

func openTrioOf(t *testing.T, sim *Simulation) *trio {
	c := &trio{
		sim:     sim,
		network: newNetwork(t), nodes: map[string]*Node{}, members: map[string]string{"n1": "addr1", "n2": "addr2", "n3": "addr3"},
	}
	var wg sync.WaitGroup
	var mu sync.Mutex // guards c.nodes
	for name := range c.members {
		wg.Go(func() {
			n, err := c.start(name, &Cluster{Members: c.members})
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			c.nodes[name] = n
		})
	}
	wg.Wait()
	t.Cleanup(c.close)
	if t.Failed() {
		t.FailNow()
	}
	return c
}

func (c *trio) start(name string, cl *Cluster) (*Node, error) {
	cl.Name = name
	addr := c.members[name]
	if addr == "" {
		addr = "addr-of-" + name
	}
	cl.Listen = c.listen(addr)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	dir := ""
	if c.sim != nil && c.sim.Open != nil {
		dir = "not volatile, and not used"
	}
	return Open(ctx, Config{Cluster: cl, Dir: dir, Simulation: c.sim, Fatal: func(err error) {
		if !errors.Is(err, ErrRemoved) {
			c.t.Errorf("%s: fatal: %v", name, err)
		}
	}})
}

func (c *trio) close() {
	for _, n := range c.nodes {
		_ = n.Close()
	}
}

// leader returns the node in office, once there is one among those that are not cut off.
func (c *trio) leader() (string, *Node) {
	for range 1000 {
		for name, n := range c.nodes {
			if n.isLeader() && n.raft.State() == raft.Leader && !c.cut[c.members[name]] {
				return name, n
			}
		}
		time.Sleep(10 * time.Millisecond) // virtual
	}
	c.t.Fatal("no leader in 10 s")
	return "", nil
}

func (c *trio) followers() []*Node {
	name, _ := c.leader()
	var out []*Node
	for other, n := range c.nodes {
		if other != name {
			out = append(out, n)
		}
	}
	return out
}

func TestAnyNodeAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openTrio(t)
		f := c.followers()
		granted := mustAcquire(t, f[0], acquireCmd("db", "a", 0), locktable.Granted)
		mustAcquire(t, f[1], acquireCmd("db", "b", 0), locktable.Held)
		again := mustAcquire(t, f[1], acquireCmd("db", "a", 0), locktable.Granted)
		if again.Token != granted.Token {
			t.Errorf("token %d through one node, %d through another", granted.Token, again.Token)
		}
		// What was acknowledged is seen at once by a read through any node.
		for name, n := range c.nodes {
			if got := waiting(t, n, "db"); got != 0 {
				t.Errorf("%s: %d waiters", name, got)
			}
			if err := n.Read(t.Context(), func(tb *locktable.Table, now locktable.Time) {
				if i, ok := tb.Lock("db", 1); !ok || i.Holders[0].Deadline <= now {
					t.Errorf("%s does not see the hold", name)
				}
			}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		mustRelease(t, f[1], "db", "a")
		mustAcquire(t, f[0], acquireCmd("db", "c", 0), locktable.Granted)
	})
}

func TestWaiterOnAFollowerIsWoken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openTrio(t)
		f := c.followers()
		mustAcquire(t, f[0], acquireCmd("db", "a", 0), locktable.Granted)
		got := acquireLater(t.Context(), f[1], "b")
		time.Sleep(10 * time.Second) // virtual
		unanswered(t, got)
		released := time.Now()
		mustRelease(t, f[0], "db", "a")
		if a := receive(t, got); a.err != nil || a.out.Code != locktable.Granted {
			t.Fatalf("code %d, error %v", a.out.Code, a.err)
		}
		// Not only when Raft tells the follower that the entry is committed: the leader tells its node at once.
		if waited := time.Since(released); waited >= LAN.Commit {
			t.Errorf("woken %v after the release", waited)
		}
	})
}

// S9: a client that leaves while its node has no leader loses its place as soon as there is one, not only by its grace.
func TestPlaceIsGivenUpAfterAnElection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openTrio(t)
		name, old := c.leader()
		mustAcquire(t, old, acquireCmd("db", "a", 0), locktable.Granted)
		ctx, cancel := context.WithCancel(t.Context())
		place := acquireLater(ctx, old, "b")
		synctest.Wait()
		if got := waiting(t, old, "db"); got != 1 {
			t.Fatalf("%d waiters", got)
		}
		c.isolate(c.members[name], true)
		time.Sleep(100 * time.Millisecond) // virtual; it still believes that it leads
		cancel()
		if a := receive(t, place); !errors.Is(a.err, context.Canceled) {
			t.Fatal(a.err)
		}
		time.Sleep(5 * time.Second) // virtual; longer than a command waits for a leader
		c.isolate(c.members[name], false)
		time.Sleep(5 * time.Second) // virtual
		if got := waiting(t, c.followers()[0], "db"); got != 0 {
			t.Errorf("%d waiters 10 s after the only one left", got)
		}
	})
}

func TestLeaderFailsAndNothingIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openTrio(t)
		name, old := c.leader()
		f := c.followers()
		held := mustAcquire(t, old, acquireCmd("db", "a", 0), locktable.Granted)
		place := acquireLater(t.Context(), f[0], "b")
		start := time.Now()
		c.isolate(c.members[name], true)
		delete(c.nodes, name)
		again := mustAcquire(t, f[1], acquireCmd("db", "a", 0), locktable.Granted)
		if took := time.Since(start); again.Token != held.Token || took > 4*time.Second {
			t.Errorf("token %d after %d, %v after the failure", again.Token, held.Token, took)
		}
		unanswered(t, place)
		mustRelease(t, f[1], "db", "a")
		if a := receive(t, place); a.err != nil || a.out.Code != locktable.Granted || a.out.Token != held.Token+1 {
			t.Errorf("code %d, token %d, error %v", a.out.Code, a.out.Token, a.err)
		}
		c.isolate(c.members[name], false)
		c.nodes[name] = old
		time.Sleep(5 * time.Second) // virtual
		mustAcquire(t, old, acquireCmd("other", "c", 0), locktable.Granted)
		var hashes [3][32]byte
		i := 0
		for _, n := range c.nodes {
			if err := n.Read(t.Context(), func(tb *locktable.Table, _ locktable.Time) { hashes[i] = tb.Hash() }); err != nil {
				t.Fatal(err)
			}
			i++
		}
	})
}

// A leader to whom nobody brings anything notices, too, that it does not lead any more: a change of membership asked of it must
// go to the one who does.
func TestIdleLeaderNoticesThatItWasReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openTrio(t)
		name, old := c.leader()
		c.isolate(c.members[name], true)
		time.Sleep(3 * time.Second) // virtual
		if old.isLeader() {
			t.Error("it was cut off and thinks that it leads")
		}
		c.isolate(c.members[name], false)
		time.Sleep(3 * time.Second) // virtual
		var victim string
		for other, n := range c.nodes {
			if n != old && !n.isLeader() {
				victim = other
				n.config.Fatal = func(error) {}
			}
		}
		if err := old.Remove(victim); err != nil {
			t.Errorf("remove %s: %v", victim, err)
		}
	})
}

// P9, T1, T11: a leader that is cut off grants, renews and releases nothing, and answers no read, and says so in time.
func TestMinorityDecidesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openTrio(t)
		name, old := c.leader()
		mustAcquire(t, old, acquireCmd("db", "a", 0), locktable.Granted)
		c.isolate(c.members[name], true)
		synctest.Wait() // a heartbeat that was under way may still be answered
		start := time.Now()
		// At once, while it still believes that it leads: it must ask before it says anything.
		if _, err := old.readIndex(); !errors.Is(err, ErrUnavailable) {
			t.Errorf("read index: %v", err)
		}
		for _, cmd := range []*command.Command{
			command.FromAcquire(acquireCmd("free", "x", 0)),
			command.FromRenew(&command.Renew{Name: "db", Key: keyOf("a")}),
			command.FromRelease(&command.Release{Name: "db", Key: keyOf("a")}),
		} {
			if o, err := old.Propose(t.Context(), cmd); !errors.Is(err, ErrUnavailable) && !errors.Is(err, ErrUnknown) {
				t.Errorf("code %d, error %v", o.Code, err)
			}
		}
		if err := old.Read(t.Context(), func(*locktable.Table, locktable.Time) {}); !errors.Is(err, ErrUnavailable) {
			t.Errorf("read: %v", err)
		}
		if took := time.Since(start); took > 4*10*time.Second {
			t.Errorf("four answers took %v", took)
		}
		c.isolate(c.members[name], false)
	})
}

func TestNodeJoinsAndVotes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openTrio(t)
		f := c.followers()
		mustAcquire(t, f[0], acquireCmd("db", "a", 0), locktable.Granted)
		n4, err := c.start("n4", &Cluster{Join: c.members["n2"]})
		if err != nil {
			t.Fatal(err)
		}
		c.nodes["n4"] = n4
		mustAcquire(t, n4, acquireCmd("db", "b", 0), locktable.Held)
		time.Sleep(5 * time.Second) // virtual
		for _, m := range n4.Members(t.Context()) {
			if !m.Voter || !m.Reachable {
				t.Errorf("member %+v", m)
			}
		}
	})
}

// T22: a node that has lost its disk must not come back under its old name and vote again.
func TestWipedNodeIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openTrio(t)
		name, _ := c.leader()
		victim := "n1"
		if name == victim {
			victim = "n2"
		}
		if err := c.nodes[victim].Close(); err != nil {
			t.Fatal(err)
		}
		delete(c.nodes, victim)
		_, err := c.start(victim, &Cluster{Members: c.members})
		if err == nil || !strings.Contains(err.Error(), "remove it from the cluster") {
			t.Errorf("error %v", err)
		}
		_, err = c.start(victim, &Cluster{Join: c.members[name]})
		if err == nil || !strings.Contains(err.Error(), "remove it first") {
			t.Errorf("error %v", err)
		}
		if err := c.nodes[name].Remove(victim); err != nil {
			t.Fatal(err)
		}
		n, err := c.start(victim, &Cluster{Join: c.members[name]})
		if err != nil {
			t.Fatal(err)
		}
		c.nodes[victim] = n
		mustAcquire(t, n, acquireCmd("db", "a", 0), locktable.Granted)
	})
}

func TestRemovedNodeStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openTrio(t)
		name, leader := c.leader()
		victim := "n1"
		if name == victim {
			victim = "n2"
		}
		removed := make(chan error, 1)
		c.nodes[victim].config.Fatal = func(err error) { removed <- err }
		if err := leader.Remove(victim); err != nil {
			t.Fatal(err)
		}
		if err := receive(t, removed); !errors.Is(err, ErrRemoved) {
			t.Errorf("error %v", err)
		}
		mustAcquire(t, leader, acquireCmd("db", "a", 0), locktable.Granted)
	})
}

// A follower that lags behind may not have heard yet that a node has joined: it must not make it believe that it was removed.
func TestWhoMayTellThatANodeWasRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openTrio(t)
		n := c.followers()[0]
		last := n.raft.LastIndex()
		for _, g := range []struct {
			applied uint64
			contact time.Duration
			may     bool
		}{{0, 0, true}, {last - 1, 1, false}, {last, 1, true}} {
			if got := n.mayJudge(&command.Greeting{AppliedIndex: g.applied, LastContact: int64(g.contact)}); got != g.may {
				t.Errorf("applied %d, heard %v ago: %v", g.applied, g.contact, got)
			}
		}
	})
}

func TestLeadershipIsHandedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openTrio(t)
		name, old := c.leader()
		f := c.followers()
		mustAcquire(t, old, acquireCmd("db", "a", 0), locktable.Granted)
		start := time.Now()
		if err := old.Close(); err != nil {
			t.Fatal(err)
		}
		delete(c.nodes, name)
		mustAcquire(t, f[0], acquireCmd("db", "b", 0), locktable.Held)
		if took := time.Since(start); took > 500*time.Millisecond {
			t.Errorf("the cluster was without a leader for %v", took)
		}
	})
}
