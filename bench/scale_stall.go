package main

import (
	"cmp"
	"context"
	"errors"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// stalls are the answers to the client beside, in milliseconds.
type stalls struct {
	P50 float64 `json:"p50_ms"`
	P99 float64 `json:"p99_ms"`
	Max float64 `json:"max_ms"`
}

// span is from when to when something went on.
type span struct{ from, to time.Time }

func (s span) took() time.Duration { return s.to.Sub(s.from) }

func (s span) meets(o span) bool { return s.from.Before(o.to) && o.from.Before(s.to) }

// beside has one client take and release a lock of its own while work runs.
func (s *scaled) beside(ctx context.Context, work func() error) (stalls, error) {
	pairs, err := s.pairsBeside(ctx, work)
	slices.SortFunc(pairs, func(a, b span) int { return cmp.Compare(a.took(), b.took()) })
	at := func(q float64) float64 {
		if len(pairs) == 0 {
			return 0
		}
		return ms(pairs[min(int(q*float64(len(pairs))), len(pairs)-1)].took())
	}
	return stalls{at(.5), at(.99), at(1)}, err
}

// pairsBeside returns the pairs of the client beside work.
func (s *scaled) pairsBeside(ctx context.Context, work func() error) (pairs []span, err error) {
	c, err := s.dialOne(ctx)
	if err != nil {
		return nil, err
	}
	defer c.close()
	var over atomic.Bool
	var fault error
	var wg sync.WaitGroup
	wg.Go(func() {
		for !over.Load() && fault == nil {
			begun := time.Now()
			fault = pairOne(c, "beside")
			pairs = append(pairs, span{begun, time.Now()})
		}
	})
	err = work()
	over.Store(true)
	wg.Wait()
	return pairs, errors.Join(err, fault)
}

func ms(d time.Duration) float64 { return float64(d) / 1e6 }

// What a snapshot does to the others shows from so many locks on, when the log brings one each ten seconds or so.
const (
	stallsFrom = 100_000
	stallsLog  = "12MiB"
	stallsTime = 45 * time.Second
)

// snapshotStalls is the longest pair of the client beside, in milliseconds, of each of some snapshots, and of each of some
// times between them that took as long.
type snapshotStalls struct {
	Seconds float64   `json:"seconds"` // that a snapshot took
	With    []float64 `json:"with_ms"`
	Without []float64 `json:"without_ms"`
}

func (s *scaled) besideSnapshots(ctx context.Context, n int) (*snapshotStalls, error) {
	s.awaitQuiet(ctx)
	seen := s.snapshotTimes()
	begun := time.Now()
	pairs, err := s.pairsBeside(ctx, func() error {
		_, err := s.during(stallsTime, n, renewOne)
		return err
	})
	snapshots := seen()
	if err != nil || len(snapshots) == 0 {
		return nil, err
	}
	return longestPairs(pairs, snapshots, span{begun, time.Now()}), nil
}

// After a snapshot the log is cut. That belongs to it.
const stallsTail = 100 * time.Millisecond

// longestPairs compares the time in all with its part in which snapshots were written.
func longestPairs(pairs, snapshots []span, all span) *snapshotStalls {
	r := &snapshotStalls{}
	var sum time.Duration
	for i := range snapshots {
		snapshots[i].to = snapshots[i].to.Add(stallsTail)
		sum += snapshots[i].took()
		r.With = append(r.With, longest(pairs, snapshots[i]))
	}
	length := sum / time.Duration(len(snapshots))
	r.Seconds = (length - stallsTail).Seconds()
	for w := (span{all.from, all.from.Add(length)}); !w.to.After(all.to); {
		if i := slices.IndexFunc(snapshots, w.meets); i >= 0 {
			w = span{snapshots[i].to, snapshots[i].to.Add(length)}
			continue
		}
		r.Without = append(r.Without, longest(pairs, w))
		w = span{w.to, w.to.Add(length)}
	}
	return r
}

// longest returns the longest of the pairs that meet w, in milliseconds.
func longest(pairs []span, w span) (most float64) {
	for _, p := range pairs {
		if p.meets(w) {
			most = max(most, ms(p.took()))
		}
	}
	return most
}

// snapshotTimes notes when snapshots are written until the function that it returns is called, which returns those that ended.
func (s *scaled) snapshotTimes() func() []span {
	var spans []span
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		begun := time.Time{}
		for {
			select {
			case <-over:
				return
			case now := <-time.After(2 * time.Millisecond):
				dirs, _ := filepath.Glob(filepath.Join(s.data(), "snapshots", "*.tmp"))
				switch {
				case len(dirs) > 0 && begun.IsZero():
					begun = now
				case len(dirs) == 0 && !begun.IsZero():
					spans, begun = append(spans, span{begun, now}), time.Time{}
				}
			}
		}
	}()
	return func() []span {
		close(over)
		<-ended
		return spans
	}
}
