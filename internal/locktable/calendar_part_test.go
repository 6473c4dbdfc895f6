package locktable

import (
	"testing"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
)

// TestCalendarPartSaysWhatTheTableSays asks both about every moment from the part's beginning on, and once more after the
// table has changed.
func TestCalendarPartSaysWhatTheTableSays(t *testing.T) {
	table := New(DefaultSettings())
	if _, ok := table.CalendarSince(0).At(5); ok {
		t.Error("a part of nothing knows something")
	}
	read := func(now Time, wall time.Duration, force bool) {
		c := &command.Calendar{At: int64(wall), Force: force}
		table.Apply(now, []*command.Command{command.FromCalendar(c)})
	}
	read(10, time.Hour, false)
	read(20, 3*time.Hour, false)
	read(30, 2*time.Hour, true)
	for from := Time(0); from <= 40; from++ {
		part := table.CalendarSince(from)
		for at := from; at <= 40; at++ {
			want, known := table.Calendar(at)
			if got, ok := part.At(at); got != want || ok != known {
				t.Fatalf("from %d on, the calendar at %d is %d, %v; want %d, %v", from, at, got, ok, want, known)
			}
		}
	}
	before := table.CalendarSince(25)
	want, _ := before.At(30)
	read(30, 9*time.Hour, true)
	if got, _ := before.At(30); got != want {
		t.Errorf("a part changed with its table: %d, want %d", got, want)
	}
}
