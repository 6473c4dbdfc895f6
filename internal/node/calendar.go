package node

import (
	"context"
	"slices"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

// The calendar of the table follows the leader's wall clock, see docs/adr/0013. The leader reads it into entries that it writes
// anyway, so that a cluster that nobody asks for anything writes nothing.

const (
	// How often the wall clock is read at most, unless an entry needs it.
	calendarEvery = time.Second
	// The calendar may lag so far behind the wall clock before a reading is worth its room in the log.
	calendarLag = 50 * time.Millisecond
	// What the calendar came with.
	calendarVersion = 2
)

// wallClock is the leader's. It is used by the proposer alone.
type wallClock struct {
	now  func() time.Time // nil: time.Now; set before use
	term uint64           // when it was read last
	read time.Time        // carries the monotonic reading
}

// nanos returns nanoseconds since 1970.
func (w *wallClock) nanos() int64 {
	if w.now != nil {
		return w.now().UnixNano()
	}
	return time.Now().UnixNano()
}

// due tells whether the first entry of a term, one that needs it, or any entry after a second is being written.
func (w *wallClock) due(term uint64, needed bool) bool {
	if !needed && w.term == term && time.Since(w.read) < calendarEvery {
		return false
	}
	w.term, w.read = term, time.Now()
	return true
}

// reading returns the command that brings the calendar up to date in an entry of that term and time, or nil if there is no need.
func (p *proposer) reading(term uint64, now locktable.Time) *command.Command {
	if p.fsm.level.Load() < calendarVersion || !p.wall.due(term, slices.ContainsFunc(p.batch, needsCalendar)) {
		return nil
	}
	var shown int64
	var known bool
	p.fsm.view(func(t *locktable.Table) { shown, known = t.Calendar(now) })
	at := p.wall.nanos()
	if known && at-shown <= int64(calendarLag) {
		return nil
	}
	return command.FromCalendar(&command.Calendar{At: at})
}

// needsCalendar tells whether b claims a slot of a schedule.
func needsCalendar(b *proposal) bool { return b.cmd.GetClaimTask().GetSlotEnd() != 0 }

// dated returns c, or, if it is a Calendar without a reading, one with that of this node.
func (p *proposer) dated(c *command.Command) *command.Command {
	if r := c.GetCalendar(); r != nil && r.GetAt() == 0 {
		return command.FromCalendar(&command.Calendar{At: p.wall.nanos(), Force: r.GetForce()})
	}
	return c
}

// SetCalendar brings the leader's wall clock into the log, whichever node is asked: if it is ahead of the calendar, or, with
// force, in any case. The outcome's code is Done, or Invalid if the clock is out of bounds. Errors are those of Propose.
func (n *Node) SetCalendar(ctx context.Context, force bool) (locktable.Outcome, error) {
	return n.Propose(ctx, command.FromCalendar(&command.Calendar{Force: force}))
}
