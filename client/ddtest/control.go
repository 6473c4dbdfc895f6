package ddtest

import (
	"context"
	"errors"

	"github.com/doubledutch-lock/doubledutch/internal/locktable"
	"github.com/doubledutch-lock/doubledutch/internal/node"
)

// Hang lets everything between clients and servers stand still, in both directions, until Resume: connections can be made, but
// requests do not arrive and answers do not come, as with a server that is frozen or a network that loses everything. Behind it
// time goes on and leases expire; what had arrived before is executed.
func (s *Server) Hang() { s.gate.shut() }

// Resume ends Hang. What was held back arrives.
func (s *Server) Resume() { s.gate.open() }

// Kill ends the process of a node (the first is 0) at once, as kill -9 does: its connections break and it takes no new ones. What
// was acknowledged is on its disk. To kill one that does not run changes nothing.
func (s *Server) Kill(i int) { s.machines[i].kill() }

// Revive starts the node again after Kill, with what is on its disk, and returns when it serves. A node can serve only when more
// than half of the nodes run; if too few do, Revive ends the test.
func (s *Server) Revive(i int) {
	s.t.Helper()
	if s.machines[i].running() != nil {
		return
	}
	if err := s.machines[i].boot(); err != nil {
		s.t.Fatalf("ddtest: node %d did not start: %v", i, err)
	}
}

// Restart kills all nodes and starts them again. Nothing that was acknowledged is lost; connections are, and waiting clients keep
// their places if they come back with their keys within 15 seconds.
func (s *Server) Restart() {
	s.t.Helper()
	for _, m := range s.machines {
		m.kill()
	}
	s.bootAll()
}

// Leader returns which node leads (the first is 0). If none does within 30 seconds, it ends the test.
func (s *Server) Leader() int {
	s.t.Helper()
	leader := -1
	s.poll("find the leader", func(context.Context, *node.Node) error {
		for i, m := range s.machines {
			if n := m.running(); n != nil && n.Leads() {
				leader = i
				return nil
			}
		}
		return errors.New("no node leads")
	})
	return leader
}

// FailOver kills the leader, waits until another node leads and serves, and starts the killed one again as a follower. It needs
// three nodes or more. Outside a synctest bubble it takes a second or two, during which no node answers.
func (s *Server) FailOver() {
	s.t.Helper()
	if len(s.machines) < 3 {
		s.t.Fatalf("ddtest: to fail over takes three nodes: ddtest.Start(t, ddtest.Nodes(3))")
	}
	old := s.Leader()
	s.Kill(old)
	s.Leader()
	s.read("fail over", func(*locktable.Table, locktable.Time) {})
	s.Revive(old)
}

// HandOver lets another node lead, without loss of connections, as an orderly restart of the leader begins. It needs three nodes
// or more.
func (s *Server) HandOver() {
	s.t.Helper()
	if len(s.machines) < 3 {
		s.t.Fatalf("ddtest: to hand over takes three nodes: ddtest.Start(t, ddtest.Nodes(3))")
	}
	old := s.Leader()
	s.poll("hand over", func(_ context.Context, n *node.Node) error {
		if s.Leader() != old {
			return nil
		}
		if err := n.Transfer(""); err != nil {
			return err
		}
		return errors.New("the same node leads again")
	})
}
