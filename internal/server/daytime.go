package server

import (
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

// daytime tells the time of day of moments of cluster time: by the cluster's calendar where that is known, and otherwise by
// this server's own clock. It is for people to read; nothing is decided by it.
type daytime struct {
	now      locktable.Time
	wall     time.Time // this server's clock at now
	calendar locktable.CalendarPart
}

// daytimeOf returns what is needed to tell the time of day of moments from the given one on. It is called where the table
// may be read.
func daytimeOf(t *locktable.Table, now, from locktable.Time) daytime {
	return daytime{now: now, wall: time.Now(), calendar: t.CalendarSince(from)}
}

// daytimeSince is daytimeOf for moments that come from elsewhere than the table, such as those of an outcome.
func (s *Server) daytimeSince(now, from locktable.Time) (day daytime) {
	s.backend.ReadStale(func(t *locktable.Table, _ uint64, _ time.Duration) { day = daytimeOf(t, now, from) })
	return day
}

// at returns the time of day of a moment of cluster time.
func (d *daytime) at(moment locktable.Time) time.Time {
	if wall, ok := d.calendar.At(moment); ok {
		return time.Unix(0, wall).UTC()
	}
	return d.wall.Add(-d.now.Sub(moment)).UTC()
}

const dayFormat = "2006-01-02T15:04:05.000Z"

// appendDay appends a member that is a time of day.
func appendDay(b []byte, member string, moment locktable.Time, day *daytime) []byte {
	b = append(b, '"')
	b = append(b, member...)
	b = append(b, `":"`...)
	b = day.at(moment).AppendFormat(b, dayFormat)
	return append(b, '"')
}

// oldest returns the earliest moment that is told of a lock.
func oldest(l *locktable.LockInfo, now locktable.Time) locktable.Time {
	for i := range l.Holders {
		now = min(now, l.Holders[i].Since)
	}
	for i := range l.Waiters {
		now = min(now, l.Waiters[i].Since)
	}
	return now
}
