package node

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

// opened is what comes of a node that opens in the background.
type opened struct {
	node *Node
	err  error
}

// await starts a node that waits to be added.
func (m *mixed) await(name string, v *command.Schema) <-chan opened {
	c := make(chan opened, 1)
	go func() {
		n, err := m.start(name, v, &Cluster{Await: true})
		c <- opened{n, err}
	}()
	synctest.Wait()
	return c
}

func (m *mixed) arrived(t *testing.T, name string, c <-chan opened) *Node {
	t.Helper()
	o := receive(t, c)
	if o.err != nil {
		t.Fatal(o.err)
	}
	m.nodes[name] = o.node
	return o.node
}

func wantRefusal(t *testing.T, err error, want string) {
	t.Helper()
	var r *RefusedError
	if !errors.As(err, &r) || !strings.Contains(r.Sentence, want) {
		t.Errorf("error %v, want a refusal with %q", err, want)
	}
}

func TestAddNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := openMixed(t, map[string]*command.Schema{"n1": version2, "n2": version2, "n3": version2})
		m.awaitLevel(2)
		f := m.followers()[0]
		mustAcquire(t, f, acquireCmd("db", "a", 0), locktable.Granted)
		wantRefusal(t, f.Add("n4", "addr-of-n4"), "no node answers at addr-of-n4")
		if err := f.Add("n2", "addr2"); err != nil { // it is a member already
			t.Error(err)
		}
		n4 := m.await("n4", version2)
		wantRefusal(t, f.Add("n5", "addr-of-n4"), "at addr-of-n4 there is node n4, not n5")
		wantRefusal(t, f.Add("a.b", "addr-of-n4"), "the name of a node")
		old := m.await("n6", version1)
		wantRefusal(t, f.Add("n6", "addr-of-n6"), "start it with a newer version")
		if err := f.Add("n4", "addr-of-n4"); err != nil { // through a follower
			t.Fatal(err)
		}
		n := m.arrived(t, "n4", n4)
		taken(t, n, newCommand("x"))
		if err := f.Add("n4", "addr-of-n4"); err != nil { // once more is harmless
			t.Error(err)
		}
		time.Sleep(5 * time.Second) // virtual
		for _, s := range n.Members(t.Context()) {
			if !s.Voter || !s.Reachable {
				t.Errorf("member %+v", s)
			}
		}
		time.Sleep(time.Minute) // virtual: the other still waits, and gives up
		if o := receive(t, old); o.err == nil || !strings.Contains(o.err.Error(), "no cluster has added this node") {
			t.Errorf("error %v", o.err)
		}
	})
}

// The leader may fail between taking a node in and telling it. Whoever leads then tells it.
func TestAddedNodeLearnsOfItLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := openMixed(t, map[string]*command.Schema{"n1": version1, "n2": version1, "n3": version1})
		_, leader := m.leader()
		waiting := m.await("n4", version1)
		res, err := leader.meet("addr-of-n4", &command.PeerRequest{Op: &command.PeerRequest_Hello{Hello: &command.Hello{}}})
		if err != nil || !res.GetHello().GetWaiting() {
			t.Fatalf("%v, error %v", res, err)
		}
		g := res.GetHello()
		if err := leader.addMember(&command.Member{Name: "n4", Instance: g.GetInstance(), Address: "addr-of-n4"}, 1); err != nil {
			t.Fatal(err)
		}
		mustAcquire(t, m.arrived(t, "n4", waiting), acquireCmd("db", "a", 0), locktable.Granted)
	})
}

// A node that waits belongs to nobody: it takes no commands, and follows only a member of the cluster that it is told of.
func TestWaitingNodeIsCareful(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := openMixed(t, map[string]*command.Schema{"n1": version1, "n2": version1, "n3": version1})
		_, leader := m.leader()
		waiting := m.await("n4", version1)
		res, err := leader.meet("addr-of-n4", &command.PeerRequest{Op: &command.PeerRequest_Hello{Hello: &command.Hello{}}})
		if err != nil {
			t.Fatal(err)
		}
		instance := res.GetHello().GetInstance()
		for _, a := range []*command.Adopt{
			{ClusterId: strings.Repeat("0c", 16), Name: "n4", Instance: instance},
			{ClusterId: leader.store.ClusterID(), Name: "n5", Instance: instance},
			{ClusterId: leader.store.ClusterID(), Name: "n4", Instance: "x" + instance},
		} {
			if _, err := leader.meet("addr-of-n4", &command.PeerRequest{Op: &command.PeerRequest_Adopt{Adopt: a}}); err == nil {
				t.Errorf("it follows %v", a)
			}
		}
		forward := &command.PeerRequest{Op: &command.PeerRequest_Forward{Forward: &command.Forward{}}}
		if _, err := leader.meet("addr-of-n4", forward); err == nil {
			t.Error("it takes commands")
		}
		// Nor does a member take commands, or a change, of somebody without a cluster.
		stranger := Peer{Name: "n9", Instance: instance}
		for _, r := range []*command.PeerRequest{
			forward,
			{Op: &command.PeerRequest_Change{Change: &command.Change{Kind: command.Change_REMOVE, Name: "n1"}}},
			{Op: &command.PeerRequest_Adopt{Adopt: &command.Adopt{}}},
		} {
			if res := leader.answer(t.Context(), stranger, r); res.GetError().GetCode() != command.PeerError_REFUSED {
				t.Errorf("%v is answered with %v", r, res)
			}
		}
		if err := leader.Add("n4", "addr-of-n4"); err != nil {
			t.Fatal(err)
		}
		m.arrived(t, "n4", waiting)
	})
}
