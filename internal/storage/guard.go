package storage

import (
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// A guard stands in front of every write of a Store: it latches the first failure and knows what is in flight.
// Safe for concurrent use.
type guard struct {
	fatal  func(error)
	logger *slog.Logger

	failed atomic.Pointer[failure]

	mu      sync.Mutex // guards flights
	flights []flight
}

type failure struct{ err error }

// A flight is one write or sync that has begun and not ended. A zero start marks a free place.
type flight struct {
	op    string
	start time.Time
}

func newGuard(o Options) *guard {
	return &guard{fatal: o.Fatal, logger: o.Logger}
}

// newQuietGuard returns a guard for the time of Open, which returns its errors itself; see arm.
func newQuietGuard() *guard {
	return &guard{fatal: func(error) {}, logger: slog.New(slog.DiscardHandler)}
}

// arm makes a quiet guard call Fatal from now on. Nobody else may use it yet.
func (g *guard) arm(o Options) { g.fatal, g.logger = o.Fatal, o.Logger }

// err returns the latched failure, or nil.
func (g *guard) err() error {
	if f := g.failed.Load(); f != nil {
		return f.err
	}
	return nil
}

// fail latches err as a *FailedError, unless something failed before, and returns what is latched.
func (g *guard) fail(op string, err error) error {
	return g.latch(&FailedError{Op: op, Err: err})
}

// latch calls Fatal with err if it is the first failure, and returns the first failure.
func (g *guard) latch(err error) error {
	if !g.failed.CompareAndSwap(nil, &failure{err}) {
		return g.err()
	}
	g.logger.Error("storage failed", "err", err)
	g.fatal(err)
	return err
}

// begin notes that op starts. Each begin without error is followed by one end with the same number.
func (g *guard) begin(op string) (int, error) {
	if err := g.err(); err != nil {
		return 0, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	for i := range g.flights {
		if g.flights[i].start.IsZero() {
			g.flights[i] = flight{op, now}
			return i, nil
		}
	}
	g.flights = append(g.flights, flight{op, now})
	return len(g.flights) - 1, nil
}

// end notes that flight n came back with err. The result is not nil when it or anything before it failed: what returns
// after the watchdog has given it up is not acknowledged either.
func (g *guard) end(n int, err error) error {
	op := g.land(n)
	if err != nil {
		return g.fail(op, err)
	}
	return g.err()
}

// land frees the place of flight n and returns its op.
func (g *guard) land(n int) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	op := g.flights[n].op
	g.flights[n] = flight{}
	return op
}

// oldest returns the flight that has been up for longest and for how long.
func (g *guard) oldest() (op string, age time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	for _, f := range g.flights {
		if !f.start.IsZero() && now.Sub(f.start) >= age {
			op, age = f.op, now.Sub(f.start)
		}
	}
	return op, age
}

// watch fails the guard when a flight takes longer than timeout; it returns when stop is closed or it has done so.
func (g *guard) watch(timeout time.Duration, stop <-chan struct{}) {
	t := time.NewTicker(max(timeout/20, 5*time.Millisecond))
	defer t.Stop()
	for {
		select {
		case <-stop:
			return
		case <-t.C:
			if op, age := g.oldest(); age > timeout {
				_ = g.fail(op, fmt.Errorf("%w for %v", ErrHung, age.Round(time.Millisecond)))
				return
			}
		}
	}
}
