package load

import (
	"context"
	"time"
)

// asLongAsItTakes is the wait of who stays in the queue while the connection lasts.
const asLongAsItTakes = "-1"

// handoff lets one lock go round among all connections: each waits for it, releases it at once and waits again. A hand-off
// counts from when its holder began to release to when the next one had the answer.
func (r *run) handoff(ctx context.Context) {
	p := &phase{
		name: Handoff, warmUp: r.plan.WarmUp, duration: r.plan.Duration,
		rec: newRecorder(r.plan.Connections, "handoff", "release"),
	}
	r.do(ctx, p, r.crew(), func(ctx context.Context, w *worker) {
		for ctx.Err() == nil {
			c := claim{key: w.newKey()}
			if code := w.acquire(c, asLongAsItTakes); code != "" {
				w.failed(ctx, p.rec, code)
				continue
			}
			w.passOn(ctx, p.rec, c)
		}
	})
}

// passOn is what happens between a grant and the next one: the time of the hand-off is taken, and the lock released.
func (w *worker) passOn(ctx context.Context, rec *recorder, c claim) {
	granted := w.run.now()
	before := time.Duration(w.run.released.Swap(int64(granted)))
	if code := w.release(c); code != "" {
		w.failed(ctx, rec, code)
		return
	}
	w.pause = 0
	if before == 0 { // nobody had it before
		rec.outside.Add(1)
		return
	}
	rec.operation(w.id, granted-before, w.run.now()-granted)
}
