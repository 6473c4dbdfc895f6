package node

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

// Made-up versions: with the second, locks got metadata; with the third, delays.
var (
	madeUp = map[protoreflect.FullName]uint32{
		"doubledutch.command.Acquire.metadata":   2,
		"doubledutch.command.Acquire.lock_delay": 3,
	}
	version1 = command.NewSchema(1, madeUp)
	version2 = command.NewSchema(2, madeUp)
	version3 = command.NewSchema(3, madeUp)
)

// mixed is a trio whose nodes are of different versions.
type mixed struct {
	*trio
	mu     sync.Mutex // guards all below
	fatals map[string]error
	opened []*Node // all, to be closed in the end: a bubble does not end before
}

func openMixed(t *testing.T, versions map[string]*command.Schema) *mixed {
	m := &mixed{
		trio: &trio{
			network: newNetwork(t), nodes: map[string]*Node{}, members: map[string]string{"n1": "addr1", "n2": "addr2", "n3": "addr3"},
		},
		fatals: map[string]error{},
	}
	var wg sync.WaitGroup
	var mu sync.Mutex // guards m.nodes
	for name, v := range versions {
		wg.Go(func() {
			n, err := m.start(name, v, &Cluster{Members: m.members})
			if err != nil {
				t.Errorf("%s: %v", name, err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			m.nodes[name] = n
		})
	}
	wg.Wait()
	t.Cleanup(m.closeAll)
	if t.Failed() {
		t.FailNow()
	}
	return m
}

// start starts a node of that version that keeps its data in memory.
func (m *mixed) start(name string, v *command.Schema, cl *Cluster) (*Node, error) {
	addr := m.members[name]
	if addr == "" {
		addr = "addr-of-" + name
	}
	cl.Name, cl.Listen = name, m.listen(addr)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	n, err := Open(ctx, Config{Cluster: cl, schema: v, Fatal: func(err error) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.fatals[name] = err
	}})
	if err == nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.opened = append(m.opened, n)
	}
	return n, err
}

func (m *mixed) closeAll() {
	for {
		m.mu.Lock()
		opened := m.opened
		m.opened = nil
		m.mu.Unlock()
		if opened == nil {
			return
		}
		for _, n := range opened {
			_ = n.Close()
		}
	}
}

func (m *mixed) fatal(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.fatals[name]
}

func newCommand(key string) *command.Command {
	a := acquireCmd("lock-"+key, key, 0)
	a.Metadata = "this is news"
	return command.FromAcquire(a)
}

// refused checks that c is refused for being too new, and returns who is in the way.
func refused(t *testing.T, n *Node, c *command.Command) string {
	t.Helper()
	o, err := n.Propose(t.Context(), c)
	var e *NotYetError
	if !errors.As(err, &e) || !errors.Is(err, ErrNotYetSupported) {
		t.Fatalf("code %d, error %v", o.Code, err)
	}
	return e.Error()
}

func taken(t *testing.T, n *Node, c *command.Command) {
	t.Helper()
	if o, err := n.Propose(t.Context(), c); err != nil || o.Code != locktable.Granted {
		t.Fatalf("code %d, error %v", o.Code, err)
	}
}

// awaitLevel waits until all nodes have got to the level.
func (m *mixed) awaitLevel(level uint32) {
	for range 1000 {
		there := 0
		for _, n := range m.nodes {
			if n.Status().Level == level {
				there++
			}
		}
		if there == len(m.nodes) {
			return
		}
		time.Sleep(10 * time.Millisecond) // virtual
	}
	m.t.Fatalf("not at level %d after 10 s", level)
}

// replace stops a node and has another one of that version join in its stead: what an upgrade does to a volatile node.
func (m *mixed) replace(name string, v *command.Schema) {
	m.t.Helper()
	if err := m.nodes[name].Close(); err != nil {
		m.t.Fatal(err)
	}
	delete(m.nodes, name)
	via, leader := m.leader()
	if err := leader.Remove(name); err != nil {
		m.t.Fatal(err)
	}
	n, err := m.start(name, v, &Cluster{Join: m.members[via]})
	if err != nil {
		m.t.Fatal(err)
	}
	m.nodes[name] = n
}

func TestNewClusterStartsAtWhatAllKnow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := openMixed(t, map[string]*command.Schema{"n1": version3, "n2": version2, "n3": version3})
		m.awaitLevel(2)
		for name, n := range m.nodes {
			taken(t, n, newCommand(name))
			newest := acquireCmd("x", "x", 0)
			newest.LockDelay = int64(time.Second)
			if why := refused(t, n, command.FromAcquire(newest)); n.schema == version3 && why != "node n2 runs an older version" {
				t.Errorf("%s says: %s", name, why)
			}
		}
	})
}

// W10: one node after the other is upgraded. What is new is refused through every node, and harms nobody, until the last one is.
func TestRollingUpgrade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := openMixed(t, map[string]*command.Schema{"n1": version1, "n2": version1, "n3": version1})
		for _, name := range []string{"n1", "n2", "n3"} {
			for who, n := range m.nodes {
				why := refused(t, n, newCommand("early"))
				if n.schema == version2 && !strings.Contains(why, "n3 runs an older version") {
					t.Errorf("%s says: %s", who, why)
				}
				mustAcquire(t, n, acquireCmd("db", "a", 0), locktable.Granted)
			}
			m.replace(name, version2)
			time.Sleep(5 * time.Second) // virtual: it votes, and the stewards have looked
		}
		m.awaitLevel(2)
		for name, n := range m.nodes {
			taken(t, n, newCommand(name))
			mustAcquire(t, n, acquireCmd("db", "a", 0), locktable.Granted) // kept through it all
		}
		for name := range m.nodes {
			if err := m.fatal(name); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

// A member that cannot be asked may be of any version.
func TestAbsentMemberKeepsTheLevelDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := openMixed(t, map[string]*command.Schema{"n1": version1, "n2": version2, "n3": version2})
		m.isolate("addr1", true)
		n1 := m.nodes["n1"]
		delete(m.nodes, "n1")
		_, leader := m.leader()
		time.Sleep(10 * time.Second) // virtual
		if why := refused(t, leader, newCommand("a")); why != "node n1 does not say which version it runs" {
			t.Errorf("it says: %s", why)
		}
		if err := leader.Remove("n1"); err != nil {
			t.Fatal(err)
		}
		m.awaitLevel(2)
		taken(t, leader, newCommand("a"))
		_ = n1.Close()
	})
}

func TestOlderNodeIsNotTakenIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := openMixed(t, map[string]*command.Schema{"n1": version2, "n2": version2, "n3": version2})
		m.awaitLevel(2)
		_, err := m.start("n4", version1, &Cluster{Join: "addr1"})
		if err == nil || !strings.Contains(err.Error(), "works at level 2, and node n4 knows up to 1; start it with a newer version") {
			t.Errorf("error %v", err)
		}
		if n4, err := m.start("n5", version3, &Cluster{Join: "addr1"}); err != nil {
			t.Error(err)
		} else {
			m.nodes["n5"] = n4
			taken(t, n4, newCommand("e"))
		}
	})
}

// A leader that has asked everybody must not raise in a later term: another leader may have taken in an older node since.
func TestRaiseOfAnotherTermIsVoid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := openMixed(t, map[string]*command.Schema{"n1": version1, "n2": version2, "n3": version2})
		_, leader := m.leader()
		_, term, _ := leader.clock.read()
		if err := leader.proposeRaise(t.Context(), 2, term-1); !errors.Is(err, ErrUnavailable) {
			t.Errorf("in another term: %v", err)
		}
		if err := m.followers()[0].proposeRaise(t.Context(), 2, term); !errors.Is(err, ErrUnavailable) {
			t.Errorf("through a follower: %v", err)
		}
		// Nor when somebody has come since the members were asked.
		asked := leader.Members(t.Context())
		another := append([]MemberStatus(nil), asked...)
		another[0].Instance = strings.Repeat("0c", 16)
		for _, stale := range [][]MemberStatus{asked[:2], another} {
			if err := leader.raiseTo(t.Context(), stale, 2, term); err != nil {
				t.Error(err)
			}
		}
		for name, n := range m.nodes {
			if got := n.Status().Level; got != 1 {
				t.Errorf("%s is at level %d", name, got)
			}
		}
		// Nor may anybody else.
		if _, err := leader.Propose(t.Context(), command.FromRaise(&command.Raise{Version: 2})); !errors.Is(err, ErrNotYetSupported) {
			t.Errorf("error %v", err)
		}
	})
}

// A downgraded node stops at what it does not know, be it in the log or in a snapshot, and says what to do.
func TestDowngradedNodeStops(t *testing.T) {
	for _, c := range []struct {
		name     string
		snapshot bool
	}{{"log", false}, {"snapshot", true}} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			n, err := Open(t.Context(), Config{Dir: dir, schema: version2})
			if err != nil {
				t.Fatal(err)
			}
			taken(t, n, newCommand("a"))
			if c.snapshot {
				if err := n.raft.Snapshot().Error(); err != nil {
					t.Fatal(err)
				}
			}
			if err := n.Close(); err != nil {
				t.Fatal(err)
			}
			fatal := make(chan error, 100)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			go func() {
				old, err := Open(ctx, Config{Dir: dir, schema: version1, Fatal: func(err error) { fatal <- err; cancel() }})
				if err == nil {
					t.Error("an older server serves")
					_ = old.Close()
				}
				close(fatal)
			}()
			first := receive(t, fatal)
			if !errors.Is(first, command.ErrNotUnderstood) || !strings.Contains(first.Error(), "run a newer server on this data") {
				t.Errorf("error %v", first)
			}
			for range fatal {
				continue
			}
			again, err := Open(t.Context(), Config{Dir: dir, schema: version2})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = again.Close() }()
			taken(t, again, newCommand("a"))
		})
	}
}

// A single server has nobody to wait for.
func TestSingleServerRaisesAtOnce(t *testing.T) {
	dir := t.TempDir()
	for _, v := range []*command.Schema{version1, version2, version3} {
		n, err := Open(t.Context(), Config{Dir: dir, schema: v})
		if err != nil {
			t.Fatal(err)
		}
		if got := n.Status().Level; got != v.Version() {
			t.Errorf("level %d, want %d", got, v.Version())
		}
		if v == version1 {
			refused(t, n, newCommand("a"))
		} else {
			taken(t, n, newCommand("a"))
		}
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// As long as the level is old, so is the form of snapshots: an older node can be brought up to date with one.
func TestSnapshotHasTheFormOfTheLevel(t *testing.T) {
	table := locktable.New(locktable.DefaultSettings())
	snapshot := func() []byte {
		s := table.Snapshot()
		defer s.Close()
		var out []byte
		for {
			chunk, err := s.Next(100)
			if err == io.EOF {
				return out
			}
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, chunk...)
		}
	}
	for level := uint32(1); level <= 3; level++ {
		table.Apply(1, []*command.Command{command.FromRaise(&command.Raise{Version: level})})
		for newest := uint32(1); newest <= 3; newest++ {
			got, err := locktable.RestoreUpTo(bytes.NewReader(snapshot()), newest)
			switch {
			case newest < level:
				if !errors.Is(err, command.ErrNotUnderstood) || !errors.Is(err, locktable.ErrBadSnapshot) {
					t.Errorf("level %d read by version %d: %v", level, newest, err)
				}
			case err != nil || got.Level() != level || got.Hash() != table.Hash():
				t.Errorf("level %d read by version %d: %v", level, newest, err)
			}
		}
	}
	table.Apply(2, []*command.Command{command.FromRaise(&command.Raise{Version: 2})})
	if table.Level() != 3 {
		t.Errorf("lowered to %d", table.Level())
	}
}
