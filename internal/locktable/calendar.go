package locktable

import (
	"errors"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
)

const (
	// maxAnchors is how many readings of the calendar are remembered.
	maxAnchors = 1000
	// The latest reading of the calendar that is believed, in nanoseconds since 1970. It leaves the cluster clock 90 years.
	maxCalendar = int64(2 * maxDuration)
	// A reading that is ahead of the calendar by no more than this changes nothing.
	calendarTolerance = int64(time.Millisecond)
)

// anchor says that at the cluster time now the calendar showed wall.
type anchor struct {
	now  Time
	wall int64
}

// anchors are readings of the calendar, oldest first.
type anchors []anchor

// Calendar returns the calendar's reading (nanoseconds since 1970) at a moment of cluster time, or false if it is not known.
func (t *Table) Calendar(at Time) (wall int64, ok bool) {
	for i := len(t.anchors) - 1; i >= 0; i-- {
		if a := t.anchors[i]; a.now <= at {
			return a.wall + int64(at-a.now), true
		}
	}
	return 0, false
}

// readCalendar takes over a reading of the calendar if it is ahead, or forced.
func (t *Table) readCalendar(c *command.Calendar) Outcome {
	if err := CheckCalendar(c); err != nil {
		return invalid(err)
	}
	wall, known := t.Calendar(t.now)
	if known && c.GetAt() <= wall+calendarTolerance && !c.GetForce() {
		return Outcome{Code: Done}
	}
	if n := len(t.anchors); n > 0 && t.anchors[n-1].now == t.now {
		t.anchors = t.anchors[:n-1]
	}
	t.anchors = append(t.anchors, anchor{now: t.now, wall: c.GetAt()})
	if n := len(t.anchors); n > maxAnchors {
		t.anchors = append(anchors(nil), t.anchors[n-maxAnchors:]...)
	}
	return Outcome{Code: Done}
}

// CheckCalendar returns what is wrong with a reading of the calendar, or nil.
func CheckCalendar(c *command.Calendar) error {
	if c.GetAt() < 0 || c.GetAt() > maxCalendar {
		return errors.New("the reading of the calendar is out of bounds")
	}
	return nil
}

func (as anchors) records() []*command.CalendarAnchor {
	var out []*command.CalendarAnchor
	for _, a := range as {
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
