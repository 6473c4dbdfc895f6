package client

import "time"

// instant is a moment on the client's own clock: the time since the client was made. It never goes back, does not follow the
// time of day, and, where the system tells, goes on while the machine is suspended, as leases do.
type instant time.Duration

// Beyond every deadline.
const never = instant(1<<63 - 1)

func (i instant) add(d time.Duration) instant {
	if d > 0 && i > never-instant(d) {
		return never
	}
	return i + instant(d)
}

func (i instant) sub(j instant) time.Duration { return time.Duration(i - j) }

// clock reads instants.
type clock struct {
	start time.Time
	// asleep returns how long the machine has been suspended since it was booted, as far as that can be known.
	asleep func() time.Duration
	// before is what asleep returned at the start.
	before time.Duration
}

func newClock(asleep func() time.Duration) *clock {
	return &clock{start: time.Now(), asleep: asleep, before: asleep()}
}

// Go's monotonic clock stands still while a Linux machine is suspended; what it missed is added.
func (c *clock) now() instant {
	return instant(time.Since(c.start) + c.asleep() - c.before)
}
