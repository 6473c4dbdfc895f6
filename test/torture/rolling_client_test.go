//go:build linux

package torture

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

var rollingMinutes = flag.Float64("torture.rolling", 0, "for how many minutes nodes are restarted under clients; 12 s and two rounds at least")

// The client package holds what it has through restarts of all nodes: no lease is lost, nothing overlaps, no write is refused.
// What the machine or the cluster had no time for at all, as the probe sees it, is told and excused.
func TestClientHoldsThroughRollingRestarts(t *testing.T) {
	r := newRing(t)
	u := startUsers(r)
	begin := time.Now()
	restarts, ofLeader := 0, 0
	pace := rand.New(rand.NewPCG(r.seed, 1<<41))
	least := max(longTTL, time.Duration(*rollingMinutes*float64(time.Minute)))
	for round := 0; round < 2 || time.Since(begin) < least || (u.lacks() || ofLeader == 0) && time.Since(begin) < least+2*time.Minute; round++ {
		for _, n := range r.order(round) {
			if r.c.leader() == n {
				ofLeader++
			}
			r.restart(n)
			restarts++
			if round%2 == 1 { // as an operator does it; the others follow each other without a break
				time.Sleep(time.Duration(pace.IntN(800)) * time.Millisecond)
			}
		}
	}
	u.stop()
	u.judge()
	if ofLeader == 0 {
		t.Error("the run saw too little: no leader was restarted")
	}
	for _, w := range r.c.unexpected {
		t.Error(w)
	}
	fmt.Printf("rolling restart of the nodes under the Go client: %d restarts, %d of them of the leader, in %v\n%s\n",
		restarts, ofLeader, time.Since(begin).Round(100*time.Millisecond), u)
}

// order begins with the leader in every other round, and ends with it in the others.
func (r *ring) order(round int) []*node {
	nodes := slices.Clone(r.c.nodes)
	leader := r.c.leader()
	slices.SortStableFunc(nodes, func(a, b *node) int {
		switch {
		case a == b || a != leader && b != leader:
			return 0
		case (a == leader) == (round%2 == 0):
			return -1
		}
		return 1
	})
	return nodes
}

// restart stops a node in peace, starts it again, and waits until it is ready.
func (r *ring) restart(n *node) {
	r.t.Helper()
	if err := n.stop(startWithin); err != nil {
		r.t.Fatal(err)
	}
	if err := n.start(); err != nil {
		r.t.Fatal(err)
	}
	if err := n.awaitReady(startWithin); err != nil {
		r.t.Fatal(err)
	}
	r.history.note(n.name, "ready again")
}
