package locktable

import (
	"math/bits"
	"time"
)

// expect returns how long a place in the queue of l (1 is the head) may take, from how long the lock was held before, or 0 if
// nothing is remembered.
func (t *Table) expect(l *lock, place int) time.Duration {
	if t.past.n == 0 || l.isTask {
		return 0
	}
	mean, n := t.past.mean(l.name)
	if n == 0 {
		return 0
	}
	micros := uint64(0)
	if h := l.holders.head; h != nil {
		micros = uint64(max(0, mean-t.now.Sub(h.since).Microseconds()))
	}
	over, more := bits.Mul64(uint64(place-1), uint64(mean))
	if micros += more; over > 0 || micros > uint64(maxDuration/time.Microsecond) {
		micros = uint64(maxDuration / time.Microsecond)
	}
	if l.used() && l.slots > 0 {
		micros /= uint64(l.slots)
	}
	wait := time.Duration(micros) * time.Microsecond
	if l.block != nil {
		wait = max(wait, l.block.until.Sub(t.now))
	}
	return wait
}

// expectPlace is expect for the place c, which has that position; of a set, it is the longest of its locks.
func (t *Table) expectPlace(c *claim, position int) time.Duration {
	set := c.set()
	if set == nil || t.past.n == 0 {
		return t.expect(c.lock, position)
	}
	wait := time.Duration(0)
	for _, m := range set.members {
		wait = max(wait, t.expect(m.lock, m.place()))
	}
	return wait
}

// Expected returns how long an acquire that joined the queue of a lock now might wait, and false if nothing is known
// because no past hold of the lock is remembered. (A known wait may be 0: the lock is free, or held for longer than usual.)
func (t *Table) Expected(name string) (time.Duration, bool) {
	if _, n := t.past.mean(name); n == 0 {
		return 0, false
	}
	l := t.lockNamed(name)
	if l == nil || l.waiters.n == 0 && l.holders.n == 0 && l.block == nil {
		return 0, true
	}
	return t.expect(l, l.waiters.len()+1), true
}

// expected is Expected for an outcome, where 0 stands for not known.
func (t *Table) expected(name string) time.Duration {
	d, _ := t.Expected(name)
	return d
}
