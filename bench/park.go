package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// holdRun is what many held locks cost.
type holdRun struct {
	Locks     int     `json:"locks"`
	PerSecond float64 `json:"taken_per_second"`
	Bytes     float64 `json:"bytes"`        // of the servers' memory, for a lock
	Renewals  float64 `json:"renewals"`     // a second; 0: the client library does that, for each lock or for all of its session
	RenewCPU  float64 `json:"renew_cpu_us"` // of the servers, for a renewal
}

// waitRun is what many cost who wait for one lock.
type waitRun struct {
	Waiters  int     `json:"waiters"`
	Bytes    float64 `json:"bytes"`     // of the servers' memory, for a waiter with its connection
	CPU      float64 `json:"cpu_share"` // of a core, while everybody waits
	DrainSec float64 `json:"drain_seconds"`
}

const (
	holders   = 16
	takeLimit = 6 * time.Second
)

// hold lets a few clients take many locks, and renew them if that is how they stay alive. It leaves them to the end of the servers.
func (b *bench) hold(ctx context.Context, locks int) (*holdRun, error) {
	clients, hangUp, err := b.dial(ctx, holders)
	if err != nil {
		return nil, err
	}
	defer hangUp()
	before := b.host.memory()
	taken := make([][]held, holders)
	took, err := each(clients, func(i int, c client) error {
		for n, end := 0, time.Now().Add(takeLimit); n < locks/holders && time.Now().Before(end); n++ {
			l, err := c.lock(ctx, holdName(i, n))
			if err != nil {
				return err
			}
			taken[i] = append(taken[i], l)
		}
		return nil
	})
	r := &holdRun{}
	for _, t := range taken {
		r.Locks += len(t)
	}
	if err != nil || r.Locks == 0 {
		return nil, err
	}
	r.PerSecond = float64(r.Locks) / took.Seconds()
	r.Bytes = float64(b.host.memory()-before) / float64(r.Locks)
	if _, ok := taken[0][0].(renewable); ok {
		if err := b.renewAll(ctx, clients, taken, r); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// renewAll renews the locks for the time of a measurement, as fast as it goes.
func (b *bench) renewAll(ctx context.Context, clients []client, taken [][]held, r *holdRun) error {
	var renewals atomic.Int64
	before := b.host.cpu()
	took, err := each(clients, func(i int, _ client) error {
		for n, end := 0, time.Now().Add(b.time); time.Now().Before(end); n++ {
			if err := taken[i][n%len(taken[i])].(renewable).renew(ctx); err != nil {
				return err
			}
			renewals.Add(1)
		}
		return nil
	})
	r.Renewals = float64(renewals.Load()) / took.Seconds()
	r.RenewCPU = per(b.host.cpu()-before, renewals.Load())
	return err
}

// each lets every client work, and returns how long all of them took.
func each(clients []client, work func(i int, c client) error) (time.Duration, error) {
	begun := time.Now()
	records := make([]record, len(clients))
	var wg sync.WaitGroup
	for i, c := range clients {
		records[i] = newRecords(1)[0]
		wg.Go(func() { records[i].err = work(i, c) })
	}
	wg.Wait()
	total, _, _ := sum(records)
	return time.Since(begun), total.err
}

// wait lets n clients wait for a lock that stays held for the time of a measurement, and then lets it go round once.
func (b *bench) wait(ctx context.Context, n int) (*waitRun, error) {
	holder, err := b.service.dial(ctx, 0)
	if err != nil {
		return nil, err
	}
	defer holder.close()
	lock, err := holder.lock(ctx, "wait")
	if err != nil {
		return nil, err
	}
	before := b.host.memory()
	clients, hangUp, err := b.dial(ctx, n)
	if err != nil {
		return nil, err
	}
	defer hangUp()
	var wg sync.WaitGroup
	t, records := &turns{start: time.Now()}, newRecords(n)
	for i, c := range clients {
		wg.Go(func() {
			records[i].err = t.take(ctx, c, "wait", int64(i)+1, &window{}, &records[i])
		})
	}
	pause(ctx, time.Second) // none of the systems tells all of those who wait, so this must be enough for them to arrive
	cpu, begun := b.host.cpu(), time.Now()
	pause(ctx, b.time)
	r := &waitRun{Waiters: n, CPU: (b.host.cpu() - cpu).Seconds() / time.Since(begun).Seconds()}
	r.Bytes = float64(b.host.memory()-before) / float64(n)
	begun = time.Now()
	if err := lock.unlock(ctx); err != nil {
		return nil, err
	}
	wg.Wait()
	r.DrainSec = time.Since(begun).Seconds()
	total, _, _ := sum(records)
	return r, total.err
}

func holdName(client, n int) string { return fmt.Sprintf("hold-%d-%d", client, n) }
