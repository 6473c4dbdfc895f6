package load

import (
	"context"
	"time"
)

// beat says when the operations of one worker begin: at fixed times, or each when the one before has ended.
type beat struct {
	every time.Duration // 0: as fast as it goes
	due   time.Time
}

// newBeat begins now, with the workers of a crew one after the other. perSecond is that of one worker.
func newBeat(perSecond float64, worker, crew int) *beat {
	if perSecond <= 0 {
		return &beat{}
	}
	every := time.Duration(float64(time.Second) / perSecond)
	return &beat{every: every, due: time.Now().Add(every * time.Duration(worker) / time.Duration(crew))}
}

// next waits for the next operation and returns from when on it counts, or false when ctx has ended. Who comes too late
// counts from when it should have begun, so that a stall of the server is felt by all that should have come during it
// (otherwise only one would). Who was in time counts from when it woke: that is the fault of this machine's timers.
func (b *beat) next(ctx context.Context) (time.Time, bool) {
	if b.every == 0 {
		return time.Now(), ctx.Err() == nil
	}
	due := b.due
	b.due = due.Add(b.every)
	return await(ctx, due)
}

// await waits until due and returns the time, or due if that has passed already; false when ctx has ended.
func await(ctx context.Context, due time.Time) (time.Time, bool) {
	ahead := time.Until(due)
	if ahead <= 0 {
		return due, ctx.Err() == nil
	}
	if !sleep(ctx, ahead) {
		return due, false
	}
	return time.Now(), true
}
