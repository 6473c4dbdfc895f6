package locktable

import (
	"errors"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
)

const (
	// maxAnchors is how many readings of the calendar are remembered.
	maxAnchors = 1000
	// A reading that is ahead of the calendar by no more than this changes nothing.
	calendarSlack = int64(time.Millisecond)
	// The calendar begins with 1970 and stays far from where its nanoseconds overflow.
	maxCalendar = 1 << 62
)

var errCalendar = errors.New("the calendar must be between 1970 and 2116")

// anchor says that at the cluster time now the calendar showed wall.
type anchor struct {
	now  Time
	wall int64
}

// calendar returns the calendar's reading (nanoseconds since 1970) at a moment of cluster time.
func (t *Table) calendar(at Time) int64 {
	for i := len(t.anchors) - 1; i >= 0; i-- {
		if a := t.anchors[i]; a.now <= at {
			return a.wall + int64(at-a.now)
		}
	}
	return int64(at)
}

// reaches returns the cluster time from which on the calendar shows wall or later, as far as that is known now; not before now.
func (t *Table) reaches(wall int64) Time {
	if ahead := wall - t.calendar(t.now); ahead > 0 {
		return t.now.Add(time.Duration(ahead))
	}
	return t.now
}

func (t *Table) setCalendar(c *command.Calendar) Outcome {
	if c.GetAt() < 0 || c.GetAt() > maxCalendar {
		return invalid(errCalendar)
	}
	if c.GetAt() <= t.calendar(t.now)+calendarSlack && !c.GetForce() {
		return Outcome{Code: Done}
	}
	if n := len(t.anchors); n > 0 && t.anchors[n-1].now == t.now {
		t.anchors = t.anchors[:n-1]
	}
	t.anchors = append(t.anchors, anchor{now: t.now, wall: c.GetAt()})
	if n := len(t.anchors); n > maxAnchors {
		t.anchors = append([]anchor(nil), t.anchors[n-maxAnchors:]...)
	}
	return Outcome{Code: Done}
}

func (t *Table) calendarRecord() []*command.CalendarAnchor {
	var out []*command.CalendarAnchor
	for _, a := range t.anchors {
		out = append(out, &command.CalendarAnchor{Now: int64(a.now), Wall: a.wall})
	}
	return out
}

func (t *Table) restoreCalendar(as []*command.CalendarAnchor) error {
	last := Time(-1)
	for _, a := range as {
		if a.GetWall() < 0 || a.GetWall() > maxCalendar || Time(a.GetNow()) <= last || Time(a.GetNow()) > t.now || len(t.anchors) == maxAnchors {
			return bad("its calendar is out of order")
		}
		last = Time(a.GetNow())
		t.anchors = append(t.anchors, anchor{now: last, wall: a.GetWall()})
	}
	return nil
}
