package load

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Options are what has nothing to do with the load itself.
type Options struct {
	// Server is what the server said of itself; it is only passed on to the report.
	Server Server
	// PIDs are the processes of the servers, if they are on this machine and their CPU time is wanted.
	PIDs []int
	// Watch, if set, is called each second, by one goroutine at a time.
	Watch func(Moment)
}

// Moment is how a phase stands.
type Moment struct {
	Phase      string
	WarmingUp  bool
	Elapsed    time.Duration // since the phase began
	Planned    time.Duration // 0: until all is done
	Operations int64         // so far, without those of the warm-up
	Recent     float64       // operations per second since the moment before
	Latency    Latency       // of the operations so far
	Errors     int64         // so far
}

// Run carries out the plan and returns what it measured. When ctx ends, it ends early and in order, with the figures so
// far: what is held is released, who waits leaves the queue. That can take as long as the server takes. Errors are mistakes
// in the plan or the options; what goes wrong between the connections and the server is counted in the report.
func Run(ctx context.Context, plan Plan, o Options) (*Report, error) {
	if err := plan.Check(); err != nil {
		return nil, err
	}
	if _, err := measureUsage(o.PIDs); err != nil {
		return nil, err
	}
	r := newRun(&plan, o)
	defer r.cut()
	switch plan.Workload {
	case Pairs:
		r.pairs(ctx)
	case Handoff:
		r.handoff(ctx)
	case Hold:
		r.hold(ctx)
	case Wait:
		r.wait(ctx)
	}
	r.report.Interrupted = ctx.Err() != nil
	r.report.Left = r.settleAll()
	return r.report, nil
}

// run is one run of a plan.
type run struct {
	plan    *Plan
	options Options
	report  *Report
	workers []*worker
	start   time.Time
	life    atomic.Pointer[life] // of all connections
	// released is when the lock was released that goes round, in nanoseconds since start; 0: not yet.
	released atomic.Int64
}

func newRun(p *Plan, o Options) *run {
	r := &run{plan: p, options: o, report: newReport(p, o.Server), start: time.Now()}
	r.revive()
	name, k := p.Prefix+"-"+randomText(8)+"-", newKeys()
	var dialects []*dialect
	for _, e := range p.Endpoints {
		dialects = append(dialects, newDialect(p, e, name, k))
	}
	for i := range p.Connections + 1 { // the last one prepares and looks
		r.workers = append(r.workers, &worker{run: r, id: i, at: i % len(dialects), dialects: dialects})
	}
	return r
}

// life is what connections live in.
type life struct {
	context.Context
	end context.CancelFunc
}

// cut breaks all connections that there are, and those that are made before revive.
func (r *run) cut() { r.life.Load().end() }

func (r *run) revive() {
	ctx, end := context.WithCancel(context.Background())
	r.life.Store(&life{ctx, end})
}

// crew are the workers that make the load.
func (r *run) crew() []*worker { return r.workers[:r.plan.Connections] }

// now is the time since the start.
func (r *run) now() time.Duration { return time.Since(r.start) }

// phase is a part of a run, while it happens.
type phase struct {
	name     string
	warmUp   time.Duration
	duration time.Duration // 0: until everybody has done their work
	rec      *recorder
	begun    time.Time // when it began to count
	before   usage     // then
}

// begin counts from now on.
func (r *run) begin(p *phase) {
	p.before, _ = measureUsage(r.options.PIDs) // it could be measured before, and if not any more, end says so
	p.rec.begin()
	p.begun = time.Now()
}

// do lets the crew work and measures it. Work has to end soon after the end of its context. Who does not return then is cut
// off, and so is everybody when nothing happens any more in a phase without a duration.
func (r *run) do(ctx context.Context, p *phase, crew []*worker, work func(context.Context, *worker)) {
	inner, stop := context.WithCancel(ctx)
	defer stop()
	if p.warmUp == 0 {
		r.begin(p) // before anybody works: everything counts
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	for _, w := range crew {
		wg.Go(func() { work(inner, w) })
	}
	go func() {
		wg.Wait()
		close(done)
	}()
	r.measure(inner, p, done)
	stop()
	select {
	case <-done:
	case <-time.After(r.plan.Timeout):
		r.cut()
		<-done
		r.revive()
	}
	r.report.Phases[len(r.report.Phases)-1].Outside = p.rec.outside.Load()
}

// measure counts what is done between the warm-up and the end of the phase, and adds it to the report.
func (r *run) measure(ctx context.Context, p *phase, done <-chan struct{}) {
	w := newWatch(r, p)
	if p.warmUp > 0 {
		w.until(ctx, done, p.warmUp, true)
		r.begin(p)
	}
	w.until(ctx, done, p.duration, false)
	p.rec.end()
	took := time.Since(p.begun)
	after, err := measureUsage(r.options.PIDs)
	r.report.Phases = append(r.report.Phases, p.result(took, after, len(r.options.PIDs) > 0 && err == nil))
}

// result makes the phase's part of the report.
func (p *phase) result(took time.Duration, after usage, servers bool) Phase {
	ops, times, errors := p.rec.sum()
	result := Phase{
		Name: p.name, Seconds: took.Seconds(), Operations: ops, PerSecond: float64(ops) / took.Seconds(),
		Errors: errors, ClientCPU: (after.client - p.before.client).Seconds(), Latency: []Latency{},
	}
	for i, h := range times {
		result.Latency = append(result.Latency, newLatency(p.rec.series[i], h))
	}
	result.MostServed, result.LeastServed = p.rec.extremes()
	if servers {
		cpu := (after.server - p.before.server).Seconds()
		result.ServerCPU, result.ServerMemoryBefore, result.ServerMemory = &cpu, &p.before.memory, &after.memory
	}
	return result
}

// sleep waits for d, or returns false when ctx has ended.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
