package simulation

import (
	"context"
	"fmt"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
	"github.com/doubledutch-lock/doubledutch/internal/node"
)

// How soon after the last fault every node serves (L2).
const recovery = 10 * time.Second

// settle mends everything, starts what is down, and judges L2: every node that runs serves within 10 s.
func (w *world) settle() {
	w.net.heal()
	for _, m := range w.machines {
		l, d := m.now()
		l.unfreeze()
		d.change(func() { d.slow, d.hangs, d.broken, d.full = 0, false, false, false })
		w.revive(m)
	}
	w.note("all is well")
	start := time.Now()
	for _, m := range w.machines {
		w.awaitWrite(m, start)
	}
	w.count.add("recoveries", 1)
}

// awaitWrite waits until a write through m succeeds.
func (w *world) awaitWrite(m *machine, start time.Time) {
	l, _ := m.now()
	// A node that has just joined has to fetch everything first.
	for bound := 2 * recovery; ; time.Sleep(100 * time.Millisecond) {
		if !l.isDead() && l.running() != nil && w.writes(l.running()) {
			return
		}
		if l.isDead() {
			w.revive(m)
			l, _ = m.now()
		}
		if time.Since(start) > recovery && !w.anyWrites() {
			w.violated("L2", "nothing can be written %v after the last fault", time.Since(start))
			return
		}
		if time.Since(start) > bound {
			w.violated("L2", "%s does not serve %v after the last fault", m.name, time.Since(start))
			return
		}
	}
}

func (w *world) anyWrites() bool {
	for _, m := range w.machines {
		if n := w.serving(m); n != nil && w.writes(n) {
			return true
		}
	}
	return false
}

// writes tells whether a write through n succeeds within 6 s.
func (w *world) writes(n *node.Node) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 6*time.Second)
	defer cancel()
	o, err := n.Propose(ctx, command.FromRenewSession(&command.RenewSession{Id: fmt.Sprintf("%032d", 0)}))
	return err == nil && o.Code == locktable.NoSession
}

// finish compares the states of all nodes with what the log makes (S14).
func (w *world) finish() {
	time.Sleep(30 * time.Second) // leases and waits of the last clients end
	w.settle()
	time.Sleep(2 * time.Second)
	for _, m := range w.machines {
		n := w.serving(m)
		if n == nil {
			w.violated("L2", "%s does not run at the end", m.name)
			continue
		}
		w.count.add("states compared", 1)
		w.compareAtEnd(m, n)
	}
}

// compareAtEnd gives an entry of this very moment, as a lease that ends now makes one, the time to reach a node. A node with another
// state keeps it.
func (w *world) compareAtEnd(m *machine, n *node.Node) {
	for start := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		var have [32]byte
		var applied uint64
		n.ReadStale(func(t *locktable.Table, index uint64, _ time.Duration) { have, applied = t.Hash(), index })
		last, want := w.book.final()
		if have == want {
			return
		}
		if time.Since(start) > time.Second {
			w.violated("S14", "%s ends with another state than the log makes: it has applied entry %d, the last is %d", m.name, applied, last)
			return
		}
	}
}
