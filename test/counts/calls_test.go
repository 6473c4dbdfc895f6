//go:build linux && !race

package counts

import (
	"math"
	"path/filepath"
	"testing"
	"time"

	"github.com/doubledutch-lock/doubledutch/test/rig"
)

const tracedPairs = 100

func TestSystemCalls(t *testing.T) {
	if reason := rig.CannotTrace(); reason != "" {
		t.Skip("SKIP: " + reason)
	}
	program := filepath.Join(t.TempDir(), "doubledutch")
	if err := rig.Build(program); err != nil {
		t.Fatal(err)
	}
	t.Run("volatile", func(t *testing.T) {
		tr := trace(t, program, "--volatile")
		tr.pairs()
		tr.end(t)
		calls := tr.during(t, "pairs")
		checkDoor(t, calls)
		allCalls.holds(t, float64(len(calls))/(2*tracedPairs))
	})
	t.Run("durable", func(t *testing.T) {
		tr := trace(t, program, "--data-dir", filepath.Join(t.TempDir(), "data"))
		tr.pairs()
		stay := func() { <-time.After(idle) }
		tr.mark("idle", stay)
		if key := tr.c.get([]byte("/getLock/held/3600")); len(key) != rig.KeyLength {
			t.Fatalf("not granted: %s", key)
		}
		tr.mark("held", stay)
		tr.end(t)
		checkDoor(t, tr.during(t, "pairs"))
		checkLog(t, tr.during(t, "pairs"))
		checkIdle(t, tr)
	})
}

// idle is how long a server is watched that has nothing to do.
const idle = 1500 * time.Millisecond

func (tr *traced) pairs() {
	p := newPairs(tr.c, 1)
	p.acquire()
	p.release() // the first request of a server fetches its settings
	tr.mark("pairs", func() {
		for range tracedPairs {
			p.acquire()
			p.release()
		}
	})
}

// checkDoor looks at the calls on the only connection, of pairs of requests.
func checkDoor(t *testing.T, calls []call) {
	t.Helper()
	// With the answer to the first mark and the reading of the second one.
	const requests = 2*tracedPairs + 1
	reads := count(calls, func(c call) bool { return c.toSocket() && c.isRead() })
	found := count(calls, func(c call) bool { return c.toSocket() && c.isRead() && c.result > 0 })
	wrote := count(calls, func(c call) bool { return c.toSocket() && !c.isRead() })
	// One finds the request. One byte of it may have been read ahead, and looking for more than there is finds nothing.
	requestReads.holds(t, reads/requests)
	requestWrites.holds(t, wrote/requests)
	if found < requests || wrote < requests {
		t.Errorf("%v reads and %v writes of %v requests: the trace is not whole", found, wrote, requests)
	}
}

// checkLog looks at what pairs of requests, one after the other, write. A tick of the clock may come in each second that they take.
func checkLog(t *testing.T, calls []call) {
	t.Helper()
	writes := count(calls, func(c call) bool { return c.toLog() && c.name == "pwrite64" })
	syncs := count(calls, func(c call) bool { return c.toLog() && c.isSync() })
	entrySyncs.holds(t, syncs/writes)
	if ticks := seconds(calls) + 1; writes < 2*tracedPairs || writes > 2*tracedPairs+ticks {
		t.Errorf("%v writes to the log for %v commands, and %v ticks at most", writes, 2*tracedPairs, ticks)
	}
	size := 0.0
	for _, c := range calls {
		if c.toLog() && c.name == "pwrite64" {
			size += float64(c.result)
		}
	}
	entryWritten.holds(t, size/writes)
}

func checkIdle(t *testing.T, tr *traced) {
	t.Helper()
	syncs := func(c call) bool { return c.toLog() && c.isSync() }
	idleSyncs.holds(t, count(tr.during(t, "idle"), syncs))
	held := tr.during(t, "held")
	tickSyncs.holds(t, count(held, syncs)/(seconds(held)+1))
}

// seconds is how many have begun while the calls were made.
func seconds(calls []call) float64 { return math.Floor(calls[len(calls)-1].at - calls[0].at) }
