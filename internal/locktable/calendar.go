package locktable

import (
	"math"
	"slices"
	"sort"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
)

// anchor says that the calendar showed wall (nanoseconds since 1970) at the cluster time now, and how far it has been ahead
// of cluster time since.
type anchor struct {
	now  Time
	wall int64
}

func (a anchor) offset() int64 { return a.wall - int64(a.now) }

// A reading that is ahead of the calendar by no more than this is not worth remembering.
const calendarTolerance = int64(time.Millisecond)

// readCalendar takes over a reading of the calendar if it is ahead, or forced.
func (t *Table) readCalendar(c *command.Calendar) Outcome {
	if err := CheckCalendar(c); err != nil {
		return invalid(err)
	}
	wall, known := t.Calendar(t.now)
	if ahead := c.GetAt() - wall; !known || ahead > calendarTolerance || c.GetForce() && ahead != 0 {
		t.anchors.set(anchor{t.now, c.GetAt()})
	}
	return Outcome{Code: Done}
}

// Calendar returns the calendar time, in nanoseconds since 1970 (UTC), of a moment of cluster time, which may be past or to
// come, or false if it is not known: before the first reading that is remembered. It takes little time.
func (t *Table) Calendar(at Time) (wall int64, ok bool) { return t.anchors.at(at) }

// CalendarPart is what a table knew of the calendar when it was read. It is a copy: it does not change, and is good for any
// goroutine. The zero value knows nothing.
type CalendarPart struct{ anchors anchors }

// At is Table.Calendar for the moments that the part is about.
func (p CalendarPart) At(at Time) (wall int64, ok bool) { return p.anchors.at(at) }

// CalendarSince returns what is needed to tell the calendar time of every moment from the given one on. It costs a copy of 16
// bytes for each reading of the calendar that was taken over since then, which are 1,000 at most.
func (t *Table) CalendarSince(from Time) CalendarPart {
	i := sort.Search(len(t.anchors), func(i int) bool { return t.anchors[i].now > from })
	return CalendarPart{slices.Clone(t.anchors[max(0, i-1):])}
}

// anchors are readings of the calendar, oldest first.
type anchors []anchor

func (as anchors) at(at Time) (wall int64, ok bool) {
	i := sort.Search(len(as), func(i int) bool { return as[i].now > at })
	if i == 0 {
		return 0, false
	}
	a := as[i-1]
	if since := int64(at - a.now); since <= math.MaxInt64-a.wall {
		return a.wall + since, true
	}
	return math.MaxInt64, true
}

// set adds a, which is not older than the others. Of too many, the one goes that changed the calendar least: clocks that run
// a little fast make many small corrections, and a few large ones are worth more. The first and the last stay.
func (as *anchors) set(a anchor) {
	if n := len(*as); n > 0 && (*as)[n-1].now == a.now {
		(*as)[n-1] = a
		return
	}
	*as = append(*as, a)
	if len(*as) <= maxAnchors {
		return
	}
	least, size := 0, int64(math.MaxInt64)
	for i := 1; i < len(*as)-1; i++ {
		step := (*as)[i].offset() - (*as)[i-1].offset()
		if step = max(step, -step); step < size {
			least, size = i, step
		}
	}
	*as = slices.Delete(*as, least, least+1)
}

// prune forgets the readings that say nothing about the time from retention ago until now.
func (as *anchors) prune(now Time, retention time.Duration) {
	for len(*as) > 1 && (*as)[1].now.Add(retention) <= now {
		*as = slices.Delete(*as, 0, 1)
	}
}

// records returns the form of as in a snapshot.
func (as anchors) records() []*command.CalendarAnchor {
	var out []*command.CalendarAnchor
	for _, a := range as {
		out = append(out, &command.CalendarAnchor{Now: int64(a.now), Wall: a.wall})
	}
	return out
}
