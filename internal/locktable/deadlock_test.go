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
	t := New(s)
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

// TestLongCycle closes a cycle of 1,000 sessions, and of one less.
func TestLongCycle(t *testing.T) {
	const n = 1000
	s := benchSettings()
	s.MaxSessions = n
	table := deadlockWorld(t, s, n)
	for i := range n {
		table.Apply(0, []*command.Command{sessionAcquire(i, fmt.Sprintf("l%04d", i), benchKey(i), 0)})
	}
	for i := range n - 1 {
		outs, _ := table.Apply(0, []*command.Command{sessionAcquire(i, fmt.Sprintf("l%04d", i+1), benchKey(n+i), -1)})
		if outs[0].Code != Waiting {
			t.Fatalf("session %d: %s", i, showOutcome(outs[0]))
		}
	}
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
	table.Apply(0, []*command.Command{command.FromRelease(&command.Release{Key: benchKey(0)})})
	if outs, _ := table.Apply(0, []*command.Command{sessionAcquire(n-1, "l0000", benchKey(2*n), -1)}); outs[0].Code != Granted && outs[0].Code != Waiting {
		t.Fatalf("%s", showOutcome(outs[0]))
	}
	if err := table.CheckInvariants(); err != nil {
		t.Fatal(err)
	}
}

// TestTooMuchToSee asks a question that takes more than maxVisits: it is answered with a place, not with a long pause.
func TestTooMuchToSee(t *testing.T) {
	const locks, crowd = 3, 40_000
	s := benchSettings()
	s.MaxSessions, s.MaxKeysPerSession = locks*crowd+2, 1<<20
	table := deadlockWorld(t, s, locks*crowd+2)
	apply := func(c *command.Command) Code {
		outs, _ := table.Apply(0, []*command.Command{c})
		return outs[0].Code
	}
	key := 0
	acquire := func(session int, name string, wait time.Duration) Code {
		key++
		return apply(sessionAcquire(session, name, benchKey(key), wait))
	}
	// Crowds of sessions that hold something wait for each lock; the two at the end close a cycle behind them.
	for i := range locks {
		acquire(locks*crowd, fmt.Sprintf("l%d", i), 0)
		for j := range crowd {
			session := i*crowd + j
			acquire(session, fmt.Sprintf("p%d", session), 0)
			acquire(session, fmt.Sprintf("l%d", i), -1)
		}
	}
	acquire(locks*crowd+1, "z", 0)
	if c := acquire(locks*crowd+1, "l0", -1); c != Waiting {
		t.Fatalf("behind one crowd: code %d", c)
	}
	for i := 1; i < locks; i++ {
		if c := acquire(locks*crowd+1, fmt.Sprintf("l%d", i), -1); c != Waiting {
			t.Fatalf("behind crowd %d: code %d", i, c)
		}
	}
	if c := acquire(locks*crowd, "z", -1); c != Deadlock && c != Waiting {
		t.Fatalf("code %d", c)
	}
	if err := table.CheckInvariants(); err != nil {
		t.Fatal(err)
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
	runs := 400
	if testing.Short() {
		runs = 40
	}
	seed, lengths, waits := testSeed(t), map[int]int{}, 0
	for run := range runs {
		s := testSettings()
		w := &world{t: New(s), m: newModel(s), j: newJudge(s)}
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
	if !testing.Short() && (lengths[1] < 20 || lengths[2] < 20 || lengths[3] < 20 || lengths[4] < 10 || waits < 5000) {
		t.Error("the run exercised too little")
	}
}
