//go:build linux

package e2e

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestKillAtEachSync kills a server that has locks from before when one of its threads calls fdatasync or fsync for the
// N-th time, for N from 1 to 60, while clients work with it. What they were told before is true after the restart.
func TestKillAtEachSync(t *testing.T) {
	t.Parallel()
	needStrace(t)
	old := makeOld(t)
	hits := sweep(t, 60, func(t *testing.T, n int) syncHit { return killAtSync(t, n, old) })
	starting, running, acks := countHits(t, hits)
	if starting+running < 55 || running < 40 || acks < 200 {
		t.Errorf("the sweep has not hit enough: %d during the start, %d at work, %d acknowledgements", starting, running, acks)
	}
	for _, h := range hits {
		if h.n == 1 && !h.starting {
			t.Error("N=1 did not hit the start")
		}
	}
}

// TestKillAtEachSyncOfTheFirstStart does the same to servers whose data directory does not exist yet.
func TestKillAtEachSyncOfTheFirstStart(t *testing.T) {
	t.Parallel()
	needStrace(t)
	hits := sweep(t, 30, func(t *testing.T, n int) syncHit { return killAtSync(t, n, oldData{}) })
	if starting, running, _ := countHits(t, hits); starting < 10 || starting+running < 25 {
		t.Errorf("the sweep has not hit enough: %d during the start, %d at work", starting, running)
	}
}

// sweepWorkers is how many servers are killed at a time.
const sweepWorkers = 3

// sweep runs f as a subtest for N from 1 to last.
func sweep(t *testing.T, last int, f func(t *testing.T, n int) syncHit) []syncHit {
	var mu sync.Mutex // guards hits
	var hits []syncHit
	numbers := make(chan int)
	var group sync.WaitGroup
	for range sweepWorkers {
		group.Go(func() {
			for n := range numbers {
				t.Run(fmt.Sprintf("N=%d", n), func(t *testing.T) {
					hit := f(t, n)
					mu.Lock()
					defer mu.Unlock()
					hits = append(hits, hit)
				})
			}
		})
	}
	for n := range last {
		numbers <- n + 1
	}
	close(numbers)
	group.Wait()
	return hits
}

// syncHit says where a kill has hit.
type syncHit struct {
	n        int  // the number given to strace
	killed   bool // the server died of it
	starting bool // before it could be used
	sync     int  // which sync of all threads it was
	acks     int  // how many changes had been acknowledged
}

func killAtSync(t *testing.T, n int, old oldData) syncHit {
	trace, wrap := traceSyncs(t, fmt.Sprintf("signal=SIGKILL:when=%d", n))
	o := options{wrap: wrap, plain: true, dir: old.copy(t)}
	s := launch(t, o)
	hit := syncHit{n: n}
	w := &workload{s: s}
	if hit.starting = !s.comesUp(); !hit.starting {
		w = drive(s, 20*time.Second)
	}
	if hit.killed = !w.over.Load(); hit.killed {
		if code := s.exit(soon); code != -int(syscall.SIGKILL) {
			t.Errorf("the server ended with %d", code)
		}
	} else {
		s.kill()
	}
	hit.sync, hit.acks = len(trace.syncs(t)), len(w.acks)
	w.claims = append(w.claims, old.claims...)
	w.highest = max(w.highest, old.highest)
	w.verify(t, s.restart())
	return hit
}

// countHits makes sense of a sweep.
func countHits(t *testing.T, hits []syncHit) (starting, running, acks int) {
	t.Helper()
	var places []int
	for _, h := range hits {
		acks += h.acks
		switch {
		case !h.killed:
			t.Logf("N=%d was never reached", h.n)
			continue
		case h.starting:
			starting++
		default:
			running++
		}
		places = append(places, h.sync)
	}
	slices.Sort(places)
	t.Logf("killed %d times during the start and %d times at work, after %d acknowledgements in all; counted over all threads, at the syncs %v",
		starting, running, acks, slices.Compact(places))
	return starting, running, acks
}

// oldData is the data directory of a server that was used and stopped, and what it promised.
type oldData struct {
	dir     string // "": there is none
	claims  []*claim
	highest uint64
}

func makeOld(t *testing.T) oldData {
	t.Helper()
	s := start(t, options{plain: true})
	old := oldData{dir: s.dir}
	for i := range 5 {
		c := &claim{name: fmt.Sprintf("%sOld%d", canaryName, i), key: newKey(), state: acked, ttl: 3600, renewed: time.Now()}
		c.token = s.acquire(c.name, request{Key: c.key, TTL: c.ttl}).Token
		old.claims = append(old.claims, c)
		old.highest = c.token
	}
	s.stop()
	return old
}

// copy returns a copy of the directory, or "" if there is none.
func (old oldData) copy(t *testing.T) string {
	t.Helper()
	if old.dir == "" {
		return ""
	}
	return copyDir(t, old.dir)
}

// copyDir copies a data directory. The zeros at the end of its files become holes.
func copyDir(t *testing.T, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "data")
	err := filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rest, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if e.IsDir() {
			return os.Mkdir(filepath.Join(to, rest), 0o700)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, rest), bytes.TrimRight(data, "\x00"), 0o600); err != nil {
			return err
		}
		return os.Truncate(filepath.Join(to, rest), int64(len(data)))
	})
	if err != nil {
		t.Fatal(err)
	}
	return to
}
