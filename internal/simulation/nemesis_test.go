package simulation

import (
	"errors"
	"sync"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/node"
)

const (
	// ttls of the clients go up to 5 s; pauses last from a tenth of the shortest to four of the longest.
	shortestPause = 100 * time.Millisecond
	longestPause  = 20 * time.Second
	// How long a machine without a process stays so, at most.
	longestDown = 8 * time.Second
)

// nemesis brings faults until the run is over, one or several at a time, and heals all now and then to see that the
// cluster recovers (L2).
func (w *world) nemesis() {
	for time.Now().Before(w.end) {
		era := time.Now().Add(w.between(20*time.Second, 90*time.Second))
		var faults sync.WaitGroup
		for time.Now().Before(era) {
			time.Sleep(w.between(200*time.Millisecond, w.o.pace))
			f := w.choose()
			faults.Go(f)
			if w.n(100) < 70 {
				faults.Wait()
			}
		}
		faults.Wait()
		w.settle()
		time.Sleep(w.between(time.Second, 15*time.Second)) // calm
	}
}

// choose returns a random fault, weighted.
func (w *world) choose() func() {
	all := []struct {
		weight int
		f      func()
	}{
		{12, w.isolateOne},
		{6, w.oneWay},
		{6, w.halves},
		{5, w.ring},
		{8, w.flap},
		{8, w.badRoads},
		{10, w.crashSome},
		{4, w.crashAll},
		{10, w.pauseOne},
		{4, w.pauseAll},
		{6, w.slowDisk},
		{6, w.lateLeader},
		{3, w.hungDisk},
		{5, w.failingDisk},
		{4, w.fullDisk},
		{3, w.lostDisk},
		{8, w.transfer},
		{4, w.replaceMember},
	}
	sum := 0
	for _, x := range all {
		sum += x.weight
	}
	at := w.n(sum)
	for _, x := range all {
		if at -= x.weight; at < 0 {
			return x.f
		}
	}
	return w.transfer
}

// victim is the leader half of the time.
func (w *world) victim() *machine {
	if w.n(2) == 0 {
		return w.leader()
	}
	return w.pick()
}

// rest lets a fault last for a while.
func (w *world) rest() { time.Sleep(w.between(200*time.Millisecond, 8*time.Second)) }

// cut cuts the road in one direction for good, until it is mended.
func (w *world) cut(from, to *machine) {
	w.net.set(from.addr, to.addr, road{cut: true, refused: w.n(2) == 0})
}

func (w *world) mend(from, to *machine) { w.net.set(from.addr, to.addr, road{}) }

func (w *world) both(a, b *machine, f func(from, to *machine)) { f(a, b); f(b, a) }

func (w *world) isolateOne() {
	m := w.victim()
	over := w.fault("isolate", "%s", m.name)
	defer over()
	for _, o := range w.machines {
		if o != m {
			w.both(m, o, w.cut)
			defer w.both(m, o, w.mend)
		}
	}
	w.rest()
}

func (w *world) oneWay() {
	m := w.victim()
	out := w.n(2) == 0
	over := w.fault("one-way", "%s, its own messages are lost: %v", m.name, out)
	defer over()
	for _, o := range w.machines {
		switch {
		case o == m || w.n(4) == 0:
		case out:
			w.cut(m, o)
			defer w.mend(m, o)
		default:
			w.cut(o, m)
			defer w.mend(o, m)
		}
	}
	w.rest()
}

func (w *world) halves() {
	few := w.some(w.minority())
	in := map[*machine]bool{}
	for _, m := range few {
		in[m] = true
	}
	over := w.fault("halves", "a minority with %s is apart", few[0].name)
	defer over()
	for i, a := range w.machines {
		for _, b := range w.machines[i+1:] {
			if in[a] != in[b] {
				w.both(a, b, w.cut)
				defer w.both(a, b, w.mend)
			}
		}
	}
	w.rest()
}

// ring leaves every machine only its neighbours, of three only two roads.
func (w *world) ring() {
	all := w.some(len(w.machines))
	over := w.fault("ring", "begins with %s", all[0].name)
	defer over()
	for i, a := range all {
		for k := i + 1; k < len(all); k++ {
			far := k-i > 1 && (i != 0 || k != len(all)-1 || len(all) == 3)
			if far {
				w.both(a, all[k], w.cut)
				defer w.both(a, all[k], w.mend)
			}
		}
	}
	w.rest()
}

func (w *world) flap() {
	m := w.victim()
	over := w.fault("flap", "%s", m.name)
	defer over()
	for range 2 + w.n(8) {
		for _, o := range w.machines {
			if o != m {
				w.both(m, o, w.cut)
			}
		}
		time.Sleep(w.between(50*time.Millisecond, 1500*time.Millisecond))
		for _, o := range w.machines {
			if o != m {
				w.both(m, o, w.mend)
			}
		}
		time.Sleep(w.between(50*time.Millisecond, 1500*time.Millisecond))
	}
}

// badRoads loses, doubles and delays messages everywhere.
func (w *world) badRoads() {
	r := road{drop: float64(w.n(30)) / 100, twice: float64(w.n(20)) / 100, delay: w.between(time.Millisecond, 300*time.Millisecond)}
	if w.n(4) == 0 {
		r.delay = w.between(time.Millisecond, 2*time.Second)
	}
	over := w.fault("bad roads", "%.0f %% lost, %.0f %% twice, up to %v late", 100*r.drop, 100*r.twice, r.delay)
	defer over()
	for _, a := range w.machines {
		for _, b := range w.machines {
			if a != b {
				w.net.set(a.addr, b.addr, r)
				defer w.mend(a, b)
			}
		}
	}
	w.rest()
}

// down ends the process of m, and starts another after a while.
func (w *world) down(m *machine, for_ time.Duration) {
	l, _ := m.now()
	w.kill(l, errors.New("killed"))
	time.Sleep(for_)
	w.revive(m)
}

// revive starts a process on m if none runs.
func (w *world) revive(m *machine) {
	if l, _ := m.now(); l.isDead() {
		w.start(m)
	}
}

func (w *world) crashSome() {
	var ends sync.WaitGroup
	var over []func()
	victims := w.some(1 + w.n(w.minority()))
	victims[0] = w.victim()
	for _, m := range victims {
		over = append(over, w.fault("crash", "%s", m.name))
		ends.Go(func() { w.down(m, w.between(50*time.Millisecond, longestDown)) })
	}
	ends.Wait()
	for _, f := range over {
		f()
	}
}

func (w *world) crashAll() {
	over := w.fault("crash all", "")
	defer over()
	var ends sync.WaitGroup
	for _, m := range w.machines {
		l, _ := m.now()
		w.kill(l, errors.New("killed"))
	}
	for _, m := range w.machines {
		ends.Go(func() {
			time.Sleep(w.between(50*time.Millisecond, longestDown))
			w.revive(m)
		})
	}
	ends.Wait()
}

func (w *world) pause(m *machine) {
	l, _ := m.now()
	d := w.between(shortestPause, time.Second)
	if w.n(3) == 0 {
		d = w.between(time.Second, longestPause)
	}
	over := w.fault("pause", "%s for %v", m.name, d)
	defer over()
	l.freeze()
	time.Sleep(d)
	l.unfreeze()
}

func (w *world) pauseOne() { w.pause(w.victim()) }

func (w *world) pauseAll() {
	var ends sync.WaitGroup
	for _, m := range w.machines {
		ends.Go(func() { w.pause(m) })
	}
	ends.Wait()
}

func (w *world) slowDisk() {
	m := w.victim()
	slow := w.between(10*time.Millisecond, 2*time.Second)
	over := w.fault("slow disk", "%s, up to %v", m.name, slow)
	defer over()
	_, d := m.now()
	d.change(func() { d.slow = slow })
	w.rest()
	if w.n(3) == 0 {
		w.down(m, w.between(50*time.Millisecond, longestDown))
	}
	d.change(func() { d.slow = 0 })
}

// lateLeader lets a leader write slowly while a minority is apart, and crash. Then those who have written its newest entries are apart, and it has
// to go on with those who have not: what it had acknowledged must be on its own disk.
func (w *world) lateLeader() {
	m := w.leader()
	slow := w.between(100*time.Millisecond, 2*time.Second)
	var behind, ahead []*machine
	for _, o := range w.some(len(w.machines)) {
		switch {
		case o == m:
		case len(behind) < w.minority():
			behind = append(behind, o)
		default:
			ahead = append(ahead, o)
		}
	}
	over := w.fault("late leader", "%s writes up to %v late, without %s, and then with it", m.name, slow, behind[0].name)
	defer over()
	apart := func(some []*machine, f func(from, to *machine)) {
		for _, a := range some {
			for _, b := range w.machines {
				if a != b {
					w.both(a, b, f)
				}
			}
		}
	}
	_, d := m.now()
	d.change(func() { d.slow = slow })
	apart(behind, w.cut)
	time.Sleep(w.between(500*time.Millisecond, 5*time.Second))
	apart(behind, w.mend)
	apart(ahead, w.cut)
	w.down(m, w.between(50*time.Millisecond, time.Second))
	w.rest()
	apart(ahead, w.mend)
}

// hungDisk ends when the process has noticed it.
func (w *world) hungDisk() {
	m := w.victim()
	over := w.fault("hung disk", "%s", m.name)
	defer over()
	l, d := m.now()
	d.change(func() { d.hangs = true })
	select {
	case <-l.dead:
	case <-time.After(2 * hangTimeout):
		d.change(func() {
			d.hangs = false
			if len(d.pending) > 0 && time.Since(d.pending[0].began) > hangTimeout*5/4 {
				w.violated("T19", "%s goes on with a disk that hangs", m.name)
			}
		})
	}
	time.Sleep(w.between(50*time.Millisecond, longestDown))
	w.revive(m)
}

// failingDisk fails one write; the process must end (T16).
func (w *world) failingDisk() {
	m := w.victim()
	over := w.fault("failing disk", "%s", m.name)
	defer over()
	l, d := m.now()
	before := 0
	d.change(func() { d.broken, before = true, d.failed })
	select {
	case <-l.dead:
	case <-time.After(20 * time.Second):
		used := false
		d.change(func() { used, d.broken = d.failed > before, false })
		if used && !l.isDead() {
			w.violated("T16", "%s goes on after a write has failed", m.name)
		}
	}
	time.Sleep(w.between(50*time.Millisecond, longestDown))
	w.revive(m)
}

func (w *world) fullDisk() {
	m := w.victim()
	over := w.fault("full disk", "%s", m.name)
	defer over()
	_, d := m.now()
	d.change(func() { d.full = true })
	w.rest()
	d.change(func() { d.full = false })
}

func (w *world) transfer() {
	m := w.pick()
	over := w.fault("transfer", "asked of %s", m.name)
	defer over()
	if n := w.serving(m); n != nil {
		to := ""
		if w.n(2) == 0 {
			to = w.pick().name
		}
		if err := n.Transfer(to); err == nil {
			w.count.add("transfers done", 1)
		}
	}
}

func (w *world) serving(m *machine) *node.Node {
	l, _ := m.now()
	if l == nil || l.isDead() || l.thaw(nil) != nil {
		return nil
	}
	return l.running()
}

// change does f to the disk.
func (d *disk) change(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
}
