package locktable

import (
	"fmt"
	"math/rand"
	"testing"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
)

// deadlockWorld is a table with open sessions of owners "o0", "o1", …
func deadlockWorld(tb testing.TB, s *command.Settings, sessions int) *Table {
	tb.Helper()
	t := newTable(s)
	for i := range sessions {
		t.Apply(0, []*command.Command{command.FromOpenSession(&command.OpenSession{
			Id: sessionID(i), Ttl: int64(time.Hour), Owner: fmt.Sprintf("o%d", i),
		})})
	}
	return t
}

func sessionID(i int) string { return fmt.Sprintf("S%031d", i) }

func sessionAcquire(session int, name, key string, wait time.Duration) *command.Command {
	return command.FromAcquire(&command.Acquire{Name: name, Key: key, Session: sessionID(session), Wait: int64(wait)})
}

// longCycle returns a table in which the last of n sessions need only wait for the lock of the first to close a cycle.
func longCycle(tb testing.TB, n int) *Table {
	tb.Helper()
	table := deadlockWorld(tb, benchSettings(), n)
	for i := range n {
		table.Apply(0, []*command.Command{sessionAcquire(i, fmt.Sprintf("l%04d", i), benchKey(i), 0)})
	}
	for i := range n - 1 {
		outs, _ := table.Apply(0, []*command.Command{sessionAcquire(i, fmt.Sprintf("l%04d", i+1), benchKey(n+i), -1)})
		if outs[0].Code != Waiting {
			tb.Fatalf("session %d: %s", i, showOutcome(outs[0]))
		}
	}
	return table
}

// TestLongCycle closes a cycle of 1,000 sessions, and of one less.
func TestLongCycle(t *testing.T) {
	const n = 1000
	table := longCycle(t, n)
	outs, _ := table.Apply(0, []*command.Command{sessionAcquire(n-1, "l0000", benchKey(2*n), -1)})
	if outs[0].Code != Deadlock || len(outs[0].Cycle.Waits) != n {
		t.Fatalf("%s", showOutcome(outs[0]))
	}
	for i, w := range outs[0].Cycle.Waits {
		a := (n - 1 + i) % n
		want := Wait{Owner: fmt.Sprintf("o%d", a), Lock: fmt.Sprintf("l%04d", (a+1)%n), HeldBy: fmt.Sprintf("o%d", (a+1)%n), Token: uint64((a+1)%n + 1)}
		if w != want {
			t.Fatalf("step %d: %+v, expected %+v", i, w, want)
		}
	}
	// Without one of its links there is no cycle.
	table.Apply(0, []*command.Command{command.FromRelease(&command.Release{Key: benchKey(n + n/2)})})
	if outs, _ := table.Apply(0, []*command.Command{sessionAcquire(n-1, "l0000", benchKey(2*n), -1)}); outs[0].Code != Waiting {
		t.Fatalf("%s", showOutcome(outs[0]))
	}
	if err := table.CheckInvariants(); err != nil {
		t.Fatal(err)
	}
}

// TestTooMuchToSee hides a cycle behind a crowd: up to maxVisits it is found, beyond it the asker gets a place, not a long pause.
func TestTooMuchToSee(t *testing.T) {
	for _, c := range []struct {
		crowd int
		want  Code
	}{{0, Deadlock}, {20, Deadlock}, {maxVisits / 4, Deadlock}, {maxVisits + 1, Waiting}} {
		table := deadlockWorld(t, benchSettings(), c.crowd+2)
		key := 0
		acquire := func(want Code, session int, name string, wait time.Duration) {
			t.Helper()
			key++
			outs, _ := table.Apply(0, []*command.Command{sessionAcquire(session, name, benchKey(key), wait)})
			if outs[0].Code != want {
				t.Fatalf("a crowd of %d: %s", c.crowd, showOutcome(outs[0]))
			}
		}
		one, other := c.crowd, c.crowd+1
		table.Apply(0, []*command.Command{acquireCommand("crowded", benchKey(1_000_000), 0)})
		acquire(Granted, one, "mine", 0)
		for i := range c.crowd {
			acquire(Waiting, i, "crowded", -1)
		}
		acquire(Waiting, other, "crowded", -1)
		acquire(Waiting, other, "mine", -1)
		acquire(c.want, one, "crowded", -1)
		if err := table.CheckInvariants(); err != nil {
			t.Fatal(err)
		}
	}
}

// dense draws commands of sessions that hold and wait all the time, over more locks than the general generator.
type dense struct {
	rng *rand.Rand
	w   *world
	key int
}

func (d *dense) command() *command.Command {
	if cs := d.w.m.claims; len(cs) > 0 && d.rng.Intn(4) == 0 {
		return command.FromRelease(&command.Release{Key: pick(d.rng, cs).key})
	}
	d.key++
	a := &command.Acquire{Key: benchKey(d.key), Wait: pick(d.rng, []int64{-1, -1, -1, -1, 0})}
	if d.rng.Intn(6) == 0 {
		a.Ttl = int64(time.Hour)
	} else {
		a.Session = sessionID(d.rng.Intn(7))
	}
	a.Owner = pick(d.rng, []string{"", "ann", "bob", "cat"})
	one := func(name string) *command.SetMember {
		m := &command.SetMember{Name: name}
		switch {
		case name >= "g":
			m.Slots = uint32(name[0] - 'f')
		case d.rng.Intn(3) == 0:
			m.Mode = Shared
		}
		return m
	}
	locks := []string{"a", "b", "c", "d", "e", "f", "g", "h", "i"}
	if d.rng.Intn(6) > 0 {
		m := one(pick(d.rng, locks))
		a.Name, a.Mode, a.Slots = m.GetName(), m.GetMode(), m.GetSlots()
		return command.FromAcquire(a)
	}
	for _, i := range d.rng.Perm(len(locks))[:1+d.rng.Intn(4)] {
		a.Set = append(a.Set, one(locks[i]))
	}
	return command.FromAcquire(a)
}

// TestRandomDeadlocks compares table, model and judge where sessions hold and wait all the time: every refusal is true, told by
// a shortest cycle, and nobody is ever left for ever.
func TestRandomDeadlocks(t *testing.T) {
	t.Parallel()
	runs := 150
	if testing.Short() {
		runs = 10
	}
	seed, lengths, waits := testSeed(t), map[int]int{}, 0
	for run := range runs {
		s := testSettings()
		w := &world{t: newTable(s), m: newModel(s), j: newJudge(s)}
		d := &dense{rng: rand.New(rand.NewSource(seed + int64(run))), w: w}
		for i := range 7 {
			open := command.FromOpenSession(&command.OpenSession{Id: sessionID(i), Ttl: int64(time.Hour), Owner: fmt.Sprintf("o%d", i)})
			if err := w.apply(0, []*command.Command{open}); err != nil {
				t.Fatal(err)
			}
		}
		for range 150 {
			c := d.command()
			if err := w.apply(0, []*command.Command{c}); err != nil {
				t.Fatalf("LOCKTABLE_SEED=%d: step %d: %v: %v", seed+int64(run), w.steps, c, err)
			}
			for _, o := range w.t.outcomes {
				switch o.Code {
				case Deadlock:
					lengths[len(o.Cycle.Waits)]++
				case Waiting:
					waits++
				}
			}
		}
	}
	t.Logf("deadlocks by length: %v; %d acquires that wait", lengths, waits)
	if !testing.Short() && (lengths[1] < 200 || lengths[2] < 200 || lengths[3] < 50 || waits < 1000) {
		t.Error("the run exercised too little")
	}
}
