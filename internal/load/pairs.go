package load

import (
	"context"
	"time"
)

// pairs acquires and releases locks that are free: each connection has names of its own.
func (r *run) pairs(ctx context.Context) {
	p := &phase{
		name: Pairs, warmUp: r.plan.WarmUp, duration: r.plan.Duration,
		rec: newRecorder(r.plan.Connections, "pair", "acquire", "release"),
	}
	r.do(ctx, p, r.crew(), func(ctx context.Context, w *worker) { w.pairs(ctx, p.rec) })
}

func (w *worker) pairs(ctx context.Context, rec *recorder) {
	crew := uint64(w.run.plan.Connections)
	names := uint64(w.run.plan.Names) / crew
	beat := newBeat(w.run.plan.Rate/float64(crew), w.id, len(w.run.crew()))
	for n := uint64(0); ; n++ {
		start, ok := beat.next(ctx)
		if !ok {
			return
		}
		c := claim{name: uint64(w.id) + n%names*crew, key: w.newKey()}
		if code := w.acquire(c, ""); code != "" {
			w.failed(ctx, rec, code)
			continue
		}
		granted := time.Now()
		if code := w.release(c); code != "" {
			w.failed(ctx, rec, code)
			continue
		}
		end := time.Now()
		w.pause = 0
		rec.operation(w.id, end.Sub(start), granted.Sub(start), end.Sub(granted))
	}
}
