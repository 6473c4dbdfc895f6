package node

import (
	"sync"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

// clock reads cluster time for a leader: the table's time when it took office, plus what its monotonic clock has
// counted since. No wall clock is involved, and the reading can only lag behind true elapsed time, never run ahead of
// it.
type clock struct {
	mu     sync.Mutex // guards all below
	base   locktable.Time
	office time.Time // carries the monotonic reading
	term   uint64    // 0: not in office

	elapsed func(time.Time) time.Duration // nil: time.Since; set before use
}

// takeOffice starts the clock at base for a term.
func (c *clock) takeOffice(term uint64, base locktable.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.term, c.base, c.office = term, base, time.Now()
}

// leaveOffice stops the clock.
func (c *clock) leaveOffice() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.term = 0
}

// read returns the time and the term it is read for, or false when not in office.
func (c *clock) read() (now locktable.Time, term uint64, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.term == 0 {
		return 0, 0, false
	}
	return c.base.Add(c.since(c.office)), c.term, true
}

func (c *clock) since(start time.Time) time.Duration {
	if c.elapsed != nil {
		return c.elapsed(start)
	}
	return time.Since(start)
}
