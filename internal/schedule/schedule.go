// Package schedule divides the calendar into slots. A task with a schedule is done once in each slot, whoever asks, and whatever
// their own clocks say: the slot follows from the cluster's calendar alone.
package schedule

import (
	"errors"
	"fmt"
	"strings"
	"time"
	_ "time/tzdata" // for machines without a time zone database; one that is installed goes first

	"github.com/netresearch/go-cron"
)

// Bounds of a schedule.
const (
	// MinEvery is the shortest slot of a schedule that repeats at a fixed distance.
	MinEvery = time.Second
	// MaxEvery is the longest.
	MaxEvery = 10 * 366 * 24 * time.Hour
	// MaxExpression is the longest cron expression, in bytes.
	MaxExpression = 256
	// How far back the beginning of the present slot of a cron expression is looked for (the 29th of February on a
	// given weekday comes every 40 years at worst), and how many of its times are looked at.
	maxBack = 48 * 366 * 24 * time.Hour
	maxLook = 100_000
)

// Schedule is one way to divide the calendar. It is immutable, and safe for concurrent use.
type Schedule struct {
	every time.Duration
	cron  cron.Schedule // in UTC
	zone  *time.Location
	// The expression is about every hour, or every few.
	hourly bool
}

// Every returns the schedule whose slots last d and begin at the multiples of d since 1970, UTC.
func Every(d time.Duration) (*Schedule, error) {
	if d < MinEvery || d > MaxEvery {
		return nil, fmt.Errorf("every must be between %d and %d seconds", int64(MinEvery/time.Second), int64(MaxEvery/time.Second))
	}
	return &Schedule{every: d}, nil
}

// The five fields of crontab(5), names like MON and JAN, and @hourly, @daily, @weekly, @monthly, @yearly. As there, a day
// matches if either the day of the month or that of the week does, when both are restricted.
var parser = cron.MustNewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor | cron.DowOrDom)

// Cron returns the schedule whose slots begin at the times of a cron expression with five fields, in the named time zone ("":
// UTC). Of a time that a change of the clocks repeats only the first counts, and one that it leaves out counts at the moment of the
// change, so that a daily job is done once on each day; what is about every hour goes by the hours that really pass.
func Cron(expression, zone string) (*Schedule, error) {
	if len(expression) > MaxExpression {
		return nil, fmt.Errorf("the cron expression is longer than %d bytes", MaxExpression)
	}
	if strings.Contains(expression, "TZ=") {
		return nil, errors.New("the cron expression must not name a time zone; use the field zone")
	}
	if strings.HasPrefix(expression, "@every") || strings.HasPrefix(expression, "@reboot") {
		return nil, errors.New("@every and @reboot are no times of the calendar; use the field every")
	}
	loc, err := location(zone)
	if err != nil {
		return nil, err
	}
	s, err := parser.Parse(expression)
	if err != nil {
		return nil, fmt.Errorf("the cron expression is not understood: %w", err)
	}
	if s.Next(time.Unix(0, 0).UTC()).IsZero() {
		return nil, errors.New("the cron expression never comes true")
	}
	fields := strings.Fields(expression)
	hourly := fields[0] == "@hourly" || len(fields) > 1 && strings.HasPrefix(fields[1], "*")
	return &Schedule{cron: s, zone: loc, hourly: hourly}, nil
}

// ErrZone means that there is no such time zone.
var ErrZone = errors.New("the zone must be a name of the time zone database, such as Europe/Zurich")

// location returns a time zone by its name. Names that mean whatever a machine is set to are none: the nodes of a cluster would
// disagree.
func location(zone string) (*time.Location, error) {
	switch zone {
	case "Local", "localtime", "posixrules":
		return nil, ErrZone
	}
	loc, err := time.LoadLocation(zone)
	if err != nil {
		return nil, fmt.Errorf("%w; %q is not there", ErrZone, zone)
	}
	return loc, nil
}

// ErrNoSlot means that no slot of the schedule has begun yet, or none ends.
var ErrNoSlot = errors.New("the schedule has no time before and after the present one")

// Slot returns the slot that contains at: from start, inclusive, to end, exclusive.
func (s *Schedule) Slot(at time.Time) (start, end time.Time, err error) {
	if s.cron == nil {
		ns := at.UnixNano()
		in := ns % int64(s.every)
		if in < 0 {
			in += int64(s.every)
		}
		start = time.Unix(0, ns-in).UTC()
		return start, start.Add(s.every), nil
	}
	return s.cronSlot(at)
}

// near is further than any change of the clocks goes (Samoa left out a day).
const near = 27 * time.Hour

// cronSlot reads the expression as times that a clock on the wall shows, and asks the zone when that is. So the slots do not
// depend on where the search for them begins.
func (s *Schedule) cronSlot(at time.Time) (start, end time.Time, err error) {
	margin := time.Duration(0)
	if from, to := at.In(s.zone).ZoneBounds(); !from.IsZero() && at.Sub(from) < near || !to.IsZero() && to.Sub(at) < near {
		margin = near
	}
	wall := wallOf(at.In(s.zone))
	tick, ok := s.before(wall.Add(-margin))
	if !ok {
		return start, end, ErrNoSlot
	}
	for range maxLook {
		if tick.IsZero() {
			return start, end, ErrNoSlot
		}
		for _, t := range s.instants(tick) {
			switch {
			case !t.After(at):
				start = later(start, t)
			case end.IsZero() || t.Before(end):
				end = t
			}
		}
		if !end.IsZero() && tick.After(wall.Add(margin)) {
			break
		}
		tick = s.cron.Next(tick)
	}
	if start.IsZero() || end.IsZero() {
		return start, end, ErrNoSlot
	}
	return start.UTC(), end.UTC(), nil
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// wallOf returns what a clock in the zone of t shows, as if it were UTC.
func wallOf(t time.Time) time.Time {
	_, offset := t.Zone()
	return t.UTC().Add(time.Duration(offset) * time.Second)
}

// instants returns when a clock on the wall shows w: usually once. A time that comes twice counts the first time only, unless the
// expression is about every hour. One that is left out counts at the moment of the change, unless it is about every hour.
func (s *Schedule) instants(w time.Time) []time.Time {
	var out []time.Time
	_, before := w.Add(-near).In(s.zone).Zone()
	_, after := w.Add(near).In(s.zone).Zone()
	for _, offset := range []int{max(before, after), min(before, after)} {
		t := w.Add(-time.Duration(offset) * time.Second)
		if wallOf(t.In(s.zone)).Equal(w) {
			out = append(out, t)
		}
		if before == after {
			return out
		}
	}
	switch {
	case len(out) == 0 && !s.hourly:
		_, change := w.Add(-time.Duration(max(before, after)) * time.Second).In(s.zone).ZoneBounds()
		return []time.Time{change}
	case len(out) == 2 && !s.hourly:
		return out[:1]
	}
	return out
}

// before returns the last time of the expression at or before at. It goes back in growing steps and then forward, so that both
// ends of a slot come from the same function.
func (s *Schedule) before(at time.Time) (time.Time, bool) {
	for back := time.Minute; back <= 2*maxBack; back *= 2 {
		tick := s.cron.Next(at.Add(-back))
		if tick.IsZero() || tick.After(at) {
			continue
		}
		for range maxLook {
			next := s.cron.Next(tick)
			if next.IsZero() || next.After(at) {
				return tick, true
			}
			tick = next
		}
		return tick, false
	}
	return time.Time{}, false
}
