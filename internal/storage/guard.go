package storage

import (
	"errors"
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

// A failure is the first one. Whoever comes later waits until Fatal was called with it: it should end the process, before a later
// error makes others end it in their own way, as raft does when it can't write its term.
type failure struct {
	err  error
	told chan struct{} // closed when Fatal has returned
}

// A flight is one write or sync that has begun and not ended. A zero start marks a free place.
type flight struct {
	op    string
	start time.Time
}

func newGuard(o Options) *guard {
	return &guard{fatal: o.Fatal, logger: o.Logger}
}

// newQuietGuard returns a guard for the time of Open, which returns its errors itself; see start and arm.
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

// verdict returns the latched failure once Fatal has been called with it, or nil.
func (g *guard) verdict() error {
	f := g.failed.Load()
	if f == nil {
		return nil
	}
	<-f.told
	return f.err
}

// fail latches err as a *FailedError, unless something failed before, and returns what is latched.
func (g *guard) fail(op string, err error) error { return g.latch(failed(op, err)) }

// failed makes err a *FailedError, if it is none yet: the innermost op says best what failed.
func failed(op string, err error) error {
	var f *FailedError
	if errors.As(err, &f) {
		return err
	}
	return &FailedError{Op: op, Err: err}
}

// latch calls Fatal with err if it is the first failure, and returns the first failure.
func (g *guard) latch(err error) error {
	f := &failure{err: err, told: make(chan struct{})}
	if !g.failed.CompareAndSwap(nil, f) {
		return g.verdict()
	}
	defer close(f.told)
	g.logger.Error("storage failed", "error", err)
	g.fatal(err)
	return err
}

// begin notes that op starts. Each begin without error is followed by one end with the same number.
func (g *guard) begin(op string) (int, error) {
	if err := g.verdict(); err != nil {
		return 0, err
	}
	return g.takeOff(op), nil
}

// takeOff notes that op starts, and returns its number for land.
func (g *guard) takeOff(op string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	for i := range g.flights {
		if g.flights[i].start.IsZero() {
			g.flights[i] = flight{op, now}
			return i
		}
	}
	g.flights = append(g.flights, flight{op, now})
	return len(g.flights) - 1
}

// step does one write or sync, which the watchdog sees. Its failure comes back as a *FailedError and is not latched: the
// caller knows whether the Store can live with it. A nil guard sees nothing.
func (g *guard) step(op string, do func() error) error {
	if g != nil {
		defer g.land(g.takeOff(op))
	}
	if err := do(); err != nil {
		return failed(op, err)
	}
	return nil
}

// end notes that flight n came back with err. The result is not nil when it or anything before it failed: what returns
// after the watchdog has given it up is not acknowledged either.
func (g *guard) end(n int, err error) error {
	op := g.land(n)
	if err != nil {
		return g.fail(op, err)
	}
	return g.verdict()
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
			if g.hung(timeout) != nil {
				return
			}
		}
	}
}

// hung fails the guard, and returns what is latched, when a flight takes longer than timeout; otherwise it returns nil.
func (g *guard) hung(timeout time.Duration) error {
	op, age := g.oldest()
	if age <= timeout {
		return nil
	}
	return g.fail(op, fmt.Errorf("%w for %v", ErrHung, age.Round(time.Millisecond)))
}
