package load

import (
	"bytes"
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// lookEvery is the time between two looks at a queue that fills.
const lookEvery = 50 * time.Millisecond

// dialing bounds how many waiters connect at a time: more would overflow what the system queues for a listener.
const dialing = 64

// parking is the workload Wait while it runs.
type parking struct {
	run     *run
	holder  *worker
	hold    claim
	rec     atomic.Pointer[recorder] // of the present phase
	dialing chan struct{}
	waiting sync.WaitGroup
	here    atomic.Int64 // how many wait
}

// wait lets every connection wait for one lock: it fills the queue, leaves it standing, and lets the lock go round once.
func (r *run) wait(ctx context.Context) {
	p := &parking{run: r, holder: r.workers[r.plan.Connections], dialing: make(chan struct{}, dialing)}
	p.hold = claim{key: p.holder.newKey()}
	park := &phase{name: "park", rec: newRecorder(r.plan.Connections)}
	p.rec.Store(park.rec)
	r.do(ctx, park, []*worker{p.holder}, func(ctx context.Context, _ *worker) { p.park(ctx) })

	stay := &phase{name: "stay", duration: r.plan.Duration, rec: newRecorder(r.plan.Connections, "renew")}
	if ctx.Err() == nil {
		p.rec.Store(stay.rec)
		r.do(ctx, stay, []*worker{p.holder}, func(ctx context.Context, _ *worker) { p.stay(ctx, stay.rec) })
	}
	drain := &phase{name: "drain", rec: newRecorder(r.plan.Connections, "handoff", "release")}
	p.rec.Store(drain.rec)
	r.do(context.WithoutCancel(ctx), drain, []*worker{p.holder}, func(ctx context.Context, _ *worker) { p.drain(ctx, drain.rec) })
}

// park takes the lock, sends everybody into its queue, and returns when they all stand there.
func (p *parking) park(ctx context.Context) {
	rec := p.rec.Load()
	if code := p.holder.acquire(p.hold, ""); code != "" {
		p.holder.failed(ctx, rec, code)
		return
	}
	for _, w := range p.run.crew() {
		if ctx.Err() != nil {
			return
		}
		p.dialing <- struct{}{}
		p.here.Add(1)
		p.waiting.Go(func() { p.waiter(ctx, w) })
	}
	for due := p.run.now(); sleep(ctx, lookEvery); {
		if n, ok := p.queue(); ok && n >= p.here.Load() {
			for range n {
				rec.operation(p.holder.id) // when each of them arrived is not known
			}
			return
		}
		due = p.renew(ctx, rec, due)
	}
}

// waiter stands in the queue until the lock comes by, and passes it on.
func (p *parking) waiter(ctx context.Context, w *worker) {
	defer p.here.Add(-1)
	c := claim{key: w.newKey()}
	d, err := w.ready()
	if err == nil {
		w.out = d.acquire(w.out[:0], c.name, c.key, asLongAsItTakes)
		if err = w.conn.Send(w.out); err != nil {
			w.doubt(c)
			err = w.broke(err)
		}
	}
	<-p.dialing
	if err != nil {
		p.rec.Load().failed(w.id, failure(err))
		return
	}
	a, err := w.receive(true)
	if code := w.granted(d, c, &a, err); code != "" {
		p.rec.Load().failed(w.id, code)
		return
	}
	w.passOn(ctx, p.rec.Load(), c)
}

// queue asks how long the queue is.
func (p *parking) queue() (int64, bool) {
	d, err := p.holder.ready()
	if err != nil {
		return 0, false
	}
	p.holder.out = d.list(p.holder.out[:0])
	a, err := p.holder.exchange(false)
	if err != nil {
		return 0, false
	}
	const member = `"queue_length":`
	at := bytes.Index(a.Body, []byte(member))
	if at < 0 {
		return 0, false
	}
	rest := a.Body[at+len(member):]
	if end := bytes.IndexAny(rest, ",}"); end >= 0 {
		rest = rest[:end]
	}
	n, err := strconv.ParseInt(string(rest), 10, 64)
	return n, err == nil
}

// renew renews the lock when a third of its lifetime has passed since due, and returns when that was.
func (p *parking) renew(ctx context.Context, rec *recorder, last time.Duration) time.Duration {
	now := p.run.now()
	if now-last < p.run.plan.TTL/3 {
		return last
	}
	if code := p.holder.renew(p.hold); code != "" {
		p.holder.failed(ctx, rec, code)
	}
	return now
}

// stay keeps the lock while everybody waits.
func (p *parking) stay(ctx context.Context, rec *recorder) {
	for {
		start := p.run.now()
		if code := p.holder.renew(p.hold); code != "" {
			p.holder.failed(ctx, rec, code)
		} else {
			rec.operation(p.holder.id, p.run.now()-start)
		}
		if !sleep(ctx, p.run.plan.TTL/3) {
			return
		}
	}
}

// drain releases the lock and returns when everybody has had it.
func (p *parking) drain(ctx context.Context, rec *recorder) {
	p.run.released.Store(int64(p.run.now()))
	if code := p.holder.release(p.hold); code != "" {
		p.holder.failed(ctx, rec, code)
	}
	p.waiting.Wait()
}
