package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// pairsRun is one measurement of pairs: acquire and release of a lock that nobody else wants.
type pairsRun struct {
	Clients   int     `json:"clients"`
	PerSecond float64 `json:"per_second"`
	ServerCPU float64 `json:"server_cpu_us"` // for a pair
	ClientCPU float64 `json:"client_cpu_us"` // for a pair
	P50       float64 `json:"acquire_p50_ms"`
	P99       float64 `json:"acquire_p99_ms"`
}

// handoffRun is one measurement of a lock that goes round among many who wait for it.
type handoffRun struct {
	PerSecond float64 `json:"per_second"`
	ServerCPU float64 `json:"server_cpu_us"`
	P50       float64 `json:"p50_ms"`
	P99       float64 `json:"p99_ms"`
	Most      int64   `json:"most_served"`
	Least     int64   `json:"least_served"`
}

// bench is a system that runs, and how long each measurement lasts.
type bench struct {
	host    *host
	service *service
	warmUp  time.Duration
	time    time.Duration
}

// dialing is how many clients connect at a time.
const dialing = 16

// dial makes n clients.
func (b *bench) dial(ctx context.Context, n int) (clients []client, hangUp func(), err error) {
	hangUp = func() {
		var wg sync.WaitGroup
		for _, c := range clients {
			wg.Go(c.close)
		}
		wg.Wait()
	}
	all, errs, free := make([]client, n), make([]error, n), make(chan struct{}, dialing)
	var wg sync.WaitGroup
	for i := range n {
		free <- struct{}{}
		wg.Go(func() {
			all[i], errs[i] = b.service.dial(ctx, i)
			<-free
		})
	}
	wg.Wait()
	for i, c := range all {
		if errs[i] == nil {
			clients = append(clients, c)
		}
	}
	if err := errors.Join(errs...); err != nil {
		hangUp()
		return nil, nil, fmt.Errorf("clients: %w", err)
	}
	return clients, hangUp, nil
}

// window says what counts: nothing before the warm-up has passed, and nothing after the end.
type window struct {
	open, over atomic.Bool
	took       time.Duration
	serverCPU  time.Duration
	clientCPU  time.Duration
}

// watch opens and closes the window.
func (b *bench) watch(ctx context.Context, w *window) {
	pause(ctx, b.warmUp)
	server, own, begun := b.host.cpu(), ownCPU(), time.Now()
	w.open.Store(true)
	pause(ctx, b.time)
	w.open.Store(false)
	w.over.Store(true)
	w.took, w.serverCPU, w.clientCPU = time.Since(begun), b.host.cpu()-server, ownCPU()-own
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// record is what one client has counted.
type record struct {
	times *hdrhistogram.Histogram
	n     int64
	err   error
}

func newRecords(n int) []record {
	all := make([]record, n)
	for i := range all {
		all[i].times = hdrhistogram.New(100, int64(time.Hour), 3)
	}
	return all
}

func (r *record) add(d time.Duration) {
	r.n++
	_ = r.times.RecordValue(min(int64(d), int64(time.Hour)))
}

// sum adds up what all have counted.
func sum(all []record) (total record, most, least int64) {
	total.times = hdrhistogram.New(100, int64(time.Hour), 3)
	least = all[0].n
	for _, r := range all {
		total.times.Merge(r.times)
		total.n += r.n
		total.err = errors.Join(total.err, r.err)
		most, least = max(most, r.n), min(least, r.n)
	}
	return total, most, least
}

func milliseconds(ns int64) float64 { return float64(ns) / 1e6 }

// per is a time for each of n, in microseconds.
func per(d time.Duration, n int64) float64 {
	return float64(d.Nanoseconds()) / 1e3 / float64(max(n, 1))
}

// names is how many different locks each client uses: ZooKeeper keeps a node for each for good.
const names = 100

// pairs lets n clients take and give back locks that nobody else wants.
func (b *bench) pairs(ctx context.Context, n int) (*pairsRun, error) {
	clients, hangUp, err := b.dial(ctx, n)
	if err != nil {
		return nil, err
	}
	defer hangUp()
	var w window
	records := newRecords(n)
	var wg sync.WaitGroup
	for i, c := range clients {
		wg.Go(func() { records[i].err = pairsOf(ctx, c, i, &w, &records[i]) })
	}
	b.watch(ctx, &w)
	wg.Wait()
	total, _, _ := sum(records)
	return &pairsRun{
		Clients: n, PerSecond: float64(total.n) / w.took.Seconds(),
		ServerCPU: per(w.serverCPU, total.n), ClientCPU: per(w.clientCPU, total.n),
		P50: milliseconds(total.times.ValueAtQuantile(50)), P99: milliseconds(total.times.ValueAtQuantile(99)),
	}, total.err
}

func pairsOf(ctx context.Context, c client, id int, w *window, r *record) error {
	for n := 0; !w.over.Load(); n++ {
		begun := time.Now()
		lock, err := c.lock(ctx, fmt.Sprintf("pair-%d-%d", id, n%names))
		if err != nil {
			return fmt.Errorf("lock: %w", err)
		}
		took := time.Since(begun)
		if err := lock.unlock(ctx); err != nil {
			return fmt.Errorf("unlock: %w", err)
		}
		if w.open.Load() {
			r.add(took)
		}
	}
	return nil
}

// handoff lets one lock go round among n clients. A hand-off is the time from when the holder begins to release it to when
// another one knows that it has it. Where the same one gets it again, it counts as served, but nothing was handed off.
func (b *bench) handoff(ctx context.Context, n int) (*handoffRun, error) {
	clients, hangUp, err := b.dial(ctx, n)
	if err != nil {
		return nil, err
	}
	defer hangUp()
	var (
		w       window
		wg      sync.WaitGroup
		t       = &turns{start: time.Now()}
		records = newRecords(n)
	)
	for i, c := range clients {
		wg.Go(func() {
			for !w.over.Load() && records[i].err == nil {
				records[i].err = t.take(ctx, c, "handoff", int64(i)+1, &w, &records[i])
			}
		})
	}
	b.watch(ctx, &w)
	wg.Wait()
	total, most, least := sum(records)
	handoffs := total.times.TotalCount()
	return &handoffRun{
		PerSecond: float64(handoffs) / w.took.Seconds(), ServerCPU: per(w.serverCPU, handoffs),
		P50: milliseconds(total.times.ValueAtQuantile(50)), P99: milliseconds(total.times.ValueAtQuantile(99)), Most: most, Least: least,
	}, total.err
}

// turns says who had the lock last, and when it was released. It is written by who has the lock.
type turns struct {
	start    time.Time
	released atomic.Int64 // nanoseconds since start
	holder   atomic.Int64 // 0: nobody
}

// take waits for the lock, notes how long it was on its way, and passes it on.
func (t *turns) take(ctx context.Context, c client, name string, id int64, w *window, r *record) error {
	lock, err := c.lock(ctx, name)
	if err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	now := time.Since(t.start)
	before, last := time.Duration(t.released.Swap(int64(now))), t.holder.Swap(id)
	if w.open.Load() {
		if r.n++; last != 0 && last != id {
			_ = r.times.RecordValue(int64(max(now-before, 1)))
		}
	}
	if err := lock.unlock(ctx); err != nil {
		return fmt.Errorf("unlock: %w", err)
	}
	return nil
}

// median is the middle one of the values, or the lower one of the two in the middle.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[(len(sorted)-1)/2]
}
