//go:build linux

package torture

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/doubledutch-lock/doubledutch/test/rig"
)

// BenchmarkFailover measures how long clients have to wait when the leader is killed, and when it is restarted in peace. Nothing
// is asserted. Use -benchtime 20x.
func BenchmarkFailover(b *testing.B) {
	b.Run("kill -9", func(b *testing.B) {
		measureFailover(b, func(n *node) error {
			n.kill()
			return nil
		})
	})
	b.Run("SIGTERM", func(b *testing.B) {
		measureFailover(b, func(n *node) error { return n.stop(startWithin) })
	})
}

// measureFailover ends the leader again and again while a client acquires and releases through another node, and tells how long
// the longest pause between two grants around it was.
func measureFailover(b *testing.B, end func(*node) error) {
	r := newRing(b)
	pauses := make([]time.Duration, 0, b.N)
	for b.Loop() {
		leader := r.c.leader()
		if leader == nil {
			b.Fatal("nobody leads")
		}
		r.history.impaired(leader.name, "ended by the benchmark", true)
		door := r.c.nodes[(leader.index+1+len(pauses)%2)%nodeCount]
		stop, longest := make(chan struct{}), make(chan time.Duration, 1)
		go func() { longest <- longestPause(r.clients, door.name, stop) }()
		time.Sleep(200 * time.Millisecond) // some grants before
		if err := end(leader); err != nil {
			b.Fatal(err)
		}
		time.Sleep(3 * time.Second) // and some after
		close(stop)
		pauses = append(pauses, <-longest)
		if err := leader.start(); err != nil {
			b.Fatal(err)
		}
		if err := leader.awaitReady(startWithin); err != nil {
			b.Fatal(err)
		}
	}
	slices.Sort(pauses)
	milliseconds := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(milliseconds(pauses[0]), "ms-min")
	b.ReportMetric(milliseconds(pauses[len(pauses)/2]), "ms-median")
	b.ReportMetric(milliseconds(pauses[len(pauses)-1]), "ms-max")
}

// longestPause acquires and releases at one node until stop is closed, and returns the longest time between two grants.
func longestPause(c *clients, node string, stop <-chan struct{}) time.Duration {
	w := &worker{clients: c, id: "bench", rand: rand.New(rand.NewPCG(1, 2))}
	var longest, last int64
	for i := 0; ; i++ {
		select {
		case <-stop:
			return time.Duration(longest)
		default:
		}
		h := w.newHold(fmt.Sprintf("bench-%d-%s", i, rig.NewKey()[:8]), time.Minute, nil)
		o := w.op(acquire, h)
		for o.Node = node; w.do(context.Background(), o).fate() != done; {
			o = w.op(acquire, h)
			o.Node = node
		}
		if last != 0 {
			longest = max(longest, o.Return-last)
		}
		last = o.Return
		d := w.op(release, h)
		d.Node = node
		w.do(context.Background(), d)
	}
}
