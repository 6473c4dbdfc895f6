package ddtest

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
	"github.com/doubledutch-lock/doubledutch/internal/node"
)

// clock is that of all machines: the real one (or that of the bubble) with jumps.
type clock struct {
	mu    sync.Mutex // guards jumps
	jumps []jump
}

type jump struct {
	at time.Time
	by time.Duration
}

// elapsed is how much time has passed since start.
func (c *clock) elapsed(start time.Time) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := time.Since(start)
	for _, j := range c.jumps {
		if j.at.After(start) {
			d += j.by
		}
	}
	return d
}

// wall is the time of day.
func (c *clock) wall() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	for _, j := range c.jumps {
		now = now.Add(j.by)
	}
	return now
}

func (c *clock) jump(by time.Duration) {
	// A leader that took office before the jump has to count it, one that took office after it must not: their moments must
	// differ also where time stands still.
	time.Sleep(time.Nanosecond)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.jumps = append(c.jumps, jump{time.Now(), by})
}

// Advance lets d pass for the servers, at once, and not for their clients: every hold, session, place and task claim has d less to
// live, and what is due by then has ended when Advance returns. To a client it looks as if it had stood still for so long without
// noticing, as a machine that was suspended does; the promise that a hold lasts for its lifetime is broken on purpose. The calendar
// of scheduled tasks moves as well. Cluster time goes only forward: d must not be negative.
func (s *Server) Advance(d time.Duration) {
	s.t.Helper()
	if d < 0 {
		s.t.Fatalf("ddtest: time goes only forward, not by %v", d)
	}
	target := s.now().Add(d)
	s.clock.jump(d)
	s.poll("advance", func(ctx context.Context, n *node.Node) error {
		if err := s.touch(ctx, n); err != nil {
			return err
		}
		now := s.now()
		if now < target {
			s.clock.jump(target.Sub(now)) // another leader took office at the wrong moment, and has not counted the jump
			return fmt.Errorf("cluster time is %v short", target.Sub(now))
		}
		return nil
	})
}

// now reads cluster time.
func (s *Server) now() (now locktable.Time) {
	s.t.Helper()
	s.read("read cluster time", func(_ *locktable.Table, at locktable.Time) { now = at })
	return now
}

// read looks at the table, with everything in it that was acknowledged.
func (s *Server) read(what string, f func(t *locktable.Table, now locktable.Time)) {
	s.t.Helper()
	s.poll(what, func(ctx context.Context, n *node.Node) error { return n.Read(ctx, f) })
}

// touch writes an entry that changes nothing but the clock, so that everything happens that is due.
func (s *Server) touch(ctx context.Context, n *node.Node) error {
	_, err := n.Propose(ctx, command.FromAbandon(&command.Abandon{Key: newKey()}))
	return err
}
