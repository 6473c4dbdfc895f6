package simulation

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/node"
)

// turn keeps two machines from being replaced at once, since the cluster could be left without a majority. It is a lock whose waiters count as durably blocked in a bubble, unlike those of a mutex.
type turn struct{ c chan struct{} }

func newTurn() *turn    { return &turn{c: make(chan struct{}, 1)} }
func (t *turn) Lock()   { t.c <- struct{}{} }
func (t *turn) Unlock() { <-t.c }

// lostDisk takes a machine's disk away. Under its old name it must be refused (T22), and be taken in again once it was
// removed.
func (w *world) lostDisk() {
	w.replacing.Lock()
	defer w.replacing.Unlock()
	m := w.victim()
	over := w.fault("lost disk", "%s", m.name)
	defer over()
	l, _ := m.now()
	w.kill(l, errors.New("killed"))
	w.renew(m, false)
	w.refusedUnderItsOldName(m)
	w.removed(m)
	w.renew(m, true)
	w.revive(m)
	w.awaitServing(m)
}

// replaceMember removes a member in good health, and lets it join anew.
func (w *world) replaceMember() {
	w.replacing.Lock()
	defer w.replacing.Unlock()
	m := w.victim()
	over := w.fault("replace", "%s", m.name)
	defer over()
	w.removed(m)
	l, _ := m.now()
	select {
	case <-l.dead: // it has noticed
		w.count.add("removed nodes that stopped themselves", 1)
	case <-time.After(15 * time.Second):
		w.kill(l, errors.New("killed"))
	}
	w.renew(m, true)
	w.revive(m)
	w.awaitServing(m)
}

// renew gives m an empty disk.
func (w *world) renew(m *machine, join bool) {
	d := w.newDisk()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.disk, m.join = d, join
}

// refusedUnderItsOldName starts a process on the empty disk that wants to form the cluster it knows.
func (w *world) refusedUnderItsOldName(m *machine) {
	l := &life{machine: m, dead: make(chan struct{}), rate: 1}
	m.mu.Lock()
	m.life = l
	d := m.disk
	m.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	n, err := w.open(ctx, l, d, &node.Cluster{Name: m.name, Members: w.members, Listen: w.net.listen(l, m.addr), Timing: w.o.timing})
	if err == nil {
		w.violated("T22", "%s came back without its disk under its old name and serves", m.name)
		_ = n.Close()
	}
	if err != nil && strings.Contains(err.Error(), "remove it from the cluster") {
		w.count.add("wiped nodes refused", 1)
	}
	w.kill(l, errors.New("refused"))
}

// removed removes m from the cluster through any node, and returns when that is certain.
func (w *world) removed(m *machine) {
	for began := time.Now(); !w.over(); {
		w.supervise(m, began)
		o := w.other(m)
		n := w.serving(o)
		if n == nil {
			time.Sleep(200 * time.Millisecond)
			continue
		}
		err := n.Remove(m.name)
		if r := (*node.RefusedError)(nil); err == nil || errors.As(err, &r) && strings.Contains(err.Error(), "there is no node") {
			w.note("%s was removed through %s (%v)", m.name, o.name, err)
			return
		}
		if w.over() {
			w.violated("L2", "%s can't be removed: %v", m.name, err)
		}
		w.note("%s was not removed through %s: %v", m.name, o.name, err)
		time.Sleep(time.Second)
	}
}

// awaitServing keeps starting processes on m until one is a voter that serves.
func (w *world) awaitServing(m *machine) {
	for began := time.Now(); !w.over(); {
		w.supervise(m, began)
		w.revive(m)
		l, _ := m.now()
		if n := l.running(); n != nil && !l.isDead() {
			for _, o := range n.Members(context.Background()) {
				if o.Self && o.Voter {
					return
				}
			}
		}
		time.Sleep(500 * time.Millisecond)
	}
}

// supervise starts the other machines' processes that have ended, when m has waited for them since began for longer than any
// fault keeps one down. Nobody else would: what ends a process of itself is often a fault that is over by then, and the end of
// all faults, which starts everything, waits for m.
func (w *world) supervise(m *machine, began time.Time) {
	if time.Since(began) < 2*longestDown {
		return
	}
	for _, o := range w.machines {
		if o != m {
			w.revive(o)
		}
	}
}

// over tells whether a fault that is still under way must come to its end: long after the end, something is wrong.
func (w *world) over() bool { return time.Since(w.end) > 5*time.Minute }
