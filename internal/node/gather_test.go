package node

import (
	"testing"
	"testing/synctest"
	"time"
)

// putLater puts n commands into q, the first at once and the others one every d.
func putLater(t *testing.T, q *queue, n int, d time.Duration) {
	for i := range n {
		if i > 0 {
			time.Sleep(d)
		}
		if err := q.put(&proposal{}, maxPending); err != nil {
			t.Error(err)
		}
	}
}

// crowded returns a gatherer that has seen n commands at a time, in batches that took took.
func crowded(q *queue, n int, took time.Duration) *gatherer {
	g := newGatherer(q, false)
	g.crowd, g.took = float64(n), took
	return g
}

// gathered lets the commands come, one every d, and returns how long g waited and how many it found.
func gathered(t *testing.T, g *gatherer, n int, d time.Duration) (waited time.Duration, found int) {
	go putLater(t, g.queue, n, d)
	synctest.Wait()
	began := time.Now()
	g.gather()
	waited = time.Since(began)
	found = len(g.queue.take(nil))
	time.Sleep(time.Duration(n) * d) // until all have come
	g.queue.take(nil)
	return waited, found
}

func TestGather(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		name        string
		crowd, come int
		took, every time.Duration
		alone       bool
		waits       time.Duration
		finds       int
	}{
		{name: "nobody has come", crowd: 20, come: 0, took: ms, waits: 0, finds: 0},
		{name: "most come back soon", crowd: 20, come: 20, took: 4 * ms, every: ms / 10, waits: 17 * ms / 10, finds: 18},
		{name: "as long as the last batch took, and half of that", crowd: 20, come: 20, took: ms, every: ms / 4, waits: 3 * ms / 2, finds: 6},
		{name: "not for long, however long the last one took", crowd: 20, come: 20, took: time.Second, every: ms, waits: gatherMost, finds: 5},
		{name: "not for a few", crowd: 8, come: 8, took: 4 * ms, every: ms / 10, waits: 0, finds: 1},
		{name: "not on a single server", crowd: 20, come: 20, took: 4 * ms, every: ms / 10, alone: true, waits: 0, finds: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := crowded(newQueue(), c.crowd, c.took)
				defer g.stop()
				g.alone = c.alone
				waited, found := gathered(t, g, c.come, c.every)
				if waited != c.waits {
					t.Errorf("waited for %v, want %v", waited, c.waits)
				}
				// What comes in the very moment in which the time is up may be found or not.
				if found != c.finds && found != c.finds+1 {
					t.Errorf("found %d commands, want %d", found, c.finds)
				}
			})
		})
	}
}

// Two waits in vain are followed by a rest, each further one by another, until a wait was worth it.
func TestGatherRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := crowded(newQueue(), 20, time.Millisecond)
		defer g.stop()
		waits := func(n int, every time.Duration) bool {
			waited, _ := gathered(t, g, n, every)
			return waited > 0
		}
		vain := func() bool { return waits(2, time.Hour) }
		rest := func() {
			t.Helper()
			for i := range gatherRest {
				if vain() {
					t.Fatalf("batch %d of the rest waited", i)
				}
			}
		}
		twice := func(when string) {
			t.Helper()
			for range 2 {
				if !vain() {
					t.Fatal("no wait ", when)
				}
			}
		}
		twice("at first")
		rest()
		if !vain() {
			t.Fatal("no wait after the rest")
		}
		rest()
		if !waits(20, time.Microsecond) {
			t.Fatal("no wait after the second rest")
		}
		twice("after one that was worth it")
		rest()
	})
}

// What was expected follows what comes.
func TestGatherForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := crowded(newQueue(), 100, time.Millisecond)
		defer g.stop()
		for range 10 {
			g.done(1, time.Now())
		}
		if waited, _ := gathered(t, g, 2, time.Hour); waited != 0 {
			t.Errorf("waited for %v, though one command came at a time", waited)
		}
		for range 10 {
			g.done(30, time.Now().Add(-time.Millisecond))
		}
		if waited, _ := gathered(t, g, 2, time.Hour); waited != 3*time.Millisecond/2 {
			t.Errorf("waited for %v, though many came at a time", waited)
		}
	})
}
