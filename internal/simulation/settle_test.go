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
	last, _ := w.book.final()
	for _, m := range w.machines {
		w.awaitEntry(m, last, start)
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

// awaitEntry waits until m has applied the entry last. A node that only passes on what it is asked can write without it.
func (w *world) awaitEntry(m *machine, last uint64, start time.Time) {
	for ; ; time.Sleep(100 * time.Millisecond) {
		var applied uint64
		if n := w.serving(m); n != nil {
			n.ReadStale(func(_ *locktable.Table, index uint64, _ time.Duration) { applied = index })
		}
		if applied >= last {
			return
		}
		if time.Since(start) > 3*recovery {
			w.violated("L2", "%s has applied entry %d, and not %d, %v after the last fault", m.name, applied, last, time.Since(start))
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
	w.checkInstallations()
	last, want := w.book.final()
	for _, m := range w.machines {
		n := w.serving(m)
		if n == nil {
			w.violated("L2", "%s does not run at the end", m.name)
			continue
		}
		var have [32]byte
		var applied uint64
		n.ReadStale(func(t *locktable.Table, index uint64, _ time.Duration) { have, applied = t.Hash(), index })
		w.count.add("states compared", 1)
		if have != want {
			w.violated("S14", "%s ends with another state than the log makes: it has applied entry %d, the last is %d", m.name, applied, last)
		}
	}
}
