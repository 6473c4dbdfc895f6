package node

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

// BenchmarkPropose reports acquire+release pairs of free names through the log, by 1, 64 and 1024 clients.
func BenchmarkPropose(b *testing.B) {
	for _, durable := range []bool{false, true} {
		for _, clients := range []int{1, 64, 1024} {
			b.Run(fmt.Sprintf("durable=%v/clients=%d", durable, clients), func(b *testing.B) {
				benchmarkPairs(b, durable, clients)
			})
		}
	}
}

func benchmarkPairs(b *testing.B, durable bool, clients int) {
	c := Config{Fatal: func(err error) { b.Error(err) }}
	if durable {
		c.Dir = b.TempDir()
	}
	n, err := Open(context.Background(), c)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = n.Close() }()
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			for j := i; j < b.N; j += clients {
				pair(b, n, "bench-"+strconv.Itoa(j))
			}
		})
	}
	wg.Wait()
}

func pair(tb testing.TB, n *Node, name string) {
	ctx := context.Background()
	key := NewKey()
	o, err := n.Acquire(ctx, &command.Acquire{Name: name, Key: key, Ttl: int64(30 * time.Second)}, Slice{})
	if err != nil || o.Code != locktable.Granted {
		tb.Error(o, err)
	}
	o, err = n.Propose(ctx, command.FromRelease(&command.Release{Name: name, Key: key}))
	if err != nil || o.Code != locktable.Released {
		tb.Error(o, err)
	}
}
