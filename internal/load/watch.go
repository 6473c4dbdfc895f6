package load

import (
	"context"
	"time"
)

// watch looks at a phase each second.
type watch struct {
	run   *run
	phase *phase
	begun time.Time
	last  time.Time // when it looked
	ops   int64     // what it saw then
	moved time.Time // when it last saw that something had happened
	seen  int64     // operations and errors, counted or not
}

func newWatch(r *run, p *phase) *watch {
	now := time.Now()
	return &watch{run: r, phase: p, begun: now, last: now, moved: now}
}

// until returns after d (0: never), when all is done, when ctx ends, or, without d, when nothing happens any more.
func (w *watch) until(ctx context.Context, done <-chan struct{}, d time.Duration, warmingUp bool) {
	w.begun = time.Now()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var end <-chan time.Time
	if d > 0 {
		end = time.After(d)
	}
	for {
		select {
		case <-end:
			return
		case <-done:
			return
		case <-ctx.Done():
			return
		case now := <-tick.C:
			if w.look(now, d, warmingUp); d == 0 && now.Sub(w.moved) > w.run.plan.TTL+w.run.plan.Timeout {
				return
			}
		}
	}
}

// look tells who watches how the phase stands.
func (w *watch) look(now time.Time, d time.Duration, warmingUp bool) {
	total := w.phase.rec.total()
	if total != w.seen {
		w.seen, w.moved = total, now
	}
	if w.run.options.Watch == nil {
		return
	}
	ops, times, errors := w.phase.rec.sum()
	m := Moment{
		Phase: w.phase.name, WarmingUp: warmingUp, Elapsed: now.Sub(w.begun), Planned: d, Operations: ops,
		Recent: float64(ops-w.ops) / now.Sub(w.last).Seconds(),
	}
	if len(times) > 0 {
		m.Latency = newLatency(w.phase.rec.series[0], times[0])
	}
	for _, n := range errors {
		m.Errors += n
	}
	w.last, w.ops = now, ops
	w.run.options.Watch(m)
}
