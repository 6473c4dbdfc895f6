package load

import (
	"context"
	"time"
)

// maxFailures in a row end the taking or the releasing of a worker: it would go on like that.
const maxFailures = 5

// held is one lock that a worker holds.
type held struct {
	claim
	due time.Duration // when it is to be renewed, since the start of the run
}

// hold takes many locks, renews each in time, and releases them.
func (r *run) hold(ctx context.Context) {
	queues := make([][]held, r.plan.Connections) // of each worker, in the order in which they are to be renewed
	take := &phase{name: "take", rec: newRecorder(r.plan.Connections, "acquire")}
	r.do(ctx, take, r.crew(), func(ctx context.Context, w *worker) { queues[w.id] = w.take(ctx, take.rec) })

	r.spread(queues)
	renew := &phase{name: "renew", duration: r.plan.Duration, rec: newRecorder(r.plan.Connections, "renew")}
	if ctx.Err() == nil {
		r.do(ctx, renew, r.crew(), func(ctx context.Context, w *worker) { queues[w.id] = w.keep(ctx, renew.rec, queues[w.id]) })
	}
	release := &phase{name: "release", rec: newRecorder(r.plan.Connections, "release")}
	r.do(context.WithoutCancel(ctx), release, r.crew(), func(ctx context.Context, w *worker) {
		w.releaseAll(ctx, release.rec, queues[w.id])
	})
}

// take acquires the worker's share. What it has is renewed in the meantime.
func (w *worker) take(ctx context.Context, rec *recorder) []held {
	var queue []held
	often, failures := w.run.plan.TTL/3, 0
	for name := w.id; name < w.run.plan.Locks && failures < maxFailures && ctx.Err() == nil; name += w.run.plan.Connections {
		for len(queue) > 0 && queue[0].due <= w.run.now() {
			queue = w.renewFirst(ctx, rec, queue, nil, often)
		}
		start := w.run.now()
		c := claim{name: uint64(name), key: w.newKey()}
		if code := w.acquire(c, ""); code != "" {
			failures++
			w.failed(ctx, rec, code)
			continue
		}
		end := w.run.now()
		failures, w.pause = 0, 0
		rec.operation(w.id, end-start)
		queue = append(queue, held{c, start + often})
	}
	return queue
}

// spread lets the renewals begin now and come evenly, not in the bursts in which the locks were taken.
func (r *run) spread(queues [][]held) {
	now, interval := r.now(), r.plan.interval()
	for id, queue := range queues {
		for i := range queue {
			share := (float64(i) + float64(id)/float64(len(queues))) / float64(len(queue))
			queue[i].due = now + time.Duration(share*float64(interval))
		}
	}
}

// keep renews each lock when it is due.
func (w *worker) keep(ctx context.Context, rec *recorder, queue []held) []held {
	for len(queue) > 0 {
		start, ok := await(ctx, w.run.start.Add(queue[0].due))
		if !ok {
			break
		}
		queue = w.renewFirst(ctx, rec, queue, &start, w.run.plan.interval())
	}
	if len(queue) == 0 {
		<-ctx.Done()
	}
	return queue
}

// renewFirst renews the first lock, which is due again after every, and puts it at the end; it counts as an operation from begun on, unless that is nil. A
// lock that is lost is left out; one that could not be asked for is tried again in its turn.
func (w *worker) renewFirst(ctx context.Context, rec *recorder, queue []held, begun *time.Time, every time.Duration) []held {
	first := queue[0]
	queue = queue[1:]
	code := w.renew(first.claim)
	switch {
	case code == "not_held" || code == "broken":
		w.failed(ctx, rec, code)
		return queue
	case code != "":
		w.failed(ctx, rec, code)
	default:
		w.pause = 0
		if begun != nil {
			rec.operation(w.id, time.Since(*begun))
		}
	}
	first.due += every
	return append(queue, first)
}

// releaseAll releases what is held, until too many releases have failed.
func (w *worker) releaseAll(ctx context.Context, rec *recorder, queue []held) {
	failures := 0
	for i, h := range queue {
		start := w.run.now()
		code := w.release(h.claim)
		if code == "" {
			failures, w.pause = 0, 0
			rec.operation(w.id, w.run.now()-start)
			continue
		}
		w.failed(ctx, rec, code)
		if failures++; failures == maxFailures {
			for _, rest := range queue[i+1:] {
				w.doubt(rest.claim)
			}
			return
		}
	}
}
