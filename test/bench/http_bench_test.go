package bench

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/load"
)

// BenchmarkHTTPPairs takes and releases free names through the seed interface over keep-alive connections. `baseline` is
// net/http on a bare map in a process of its own, the least that any Go server of this kind can cost; `three` is a cluster of
// three processes, each with a third of the clients.
func BenchmarkHTTPPairs(b *testing.B) {
	for _, conns := range []int{1, 16, 64, 256} {
		for _, kind := range []string{"baseline", "volatile", "durable", "three"} {
			b.Run(fmt.Sprintf("%s/conns=%d", kind, conns), func(b *testing.B) {
				s := startServer(b, kind)
				benchmarkPairs(b, s, conns)
			})
		}
	}
}

func benchmarkPairs(b *testing.B, s *server, conns int) {
	clients := make([]*client, conns)
	for i := range clients {
		clients[i] = s.dial(b, i)
		defer clients[i].Close()
	}
	var next atomic.Int64
	latencies := make([][]time.Duration, conns)
	before := s.cpu(b)
	b.ResetTimer()
	var wg sync.WaitGroup
	for i, c := range clients {
		wg.Go(func() {
			for next.Add(1) <= int64(b.N) {
				start := time.Now()
				c.pair(b, i)
				latencies[i] = append(latencies[i], time.Since(start))
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	all := slices.Concat(latencies...)
	slices.Sort(all)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "pairs/s")
	b.ReportMetric(float64((s.cpu(b)-before).Microseconds())/float64(b.N), "server-µs/pair")
	b.ReportMetric(float64(all[len(all)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-µs")
}

// BenchmarkHandoff passes one lock around 32 waiters: from the release to the answer that the next one gets.
func BenchmarkHandoff(b *testing.B) {
	for _, kind := range []string{"volatile", "durable", "three"} {
		b.Run(kind, func(b *testing.B) { benchmarkHandoff(b, startServer(b, kind), 32) })
	}
}

func benchmarkHandoff(b *testing.B, s *server, workers int) {
	var (
		left     atomic.Int64
		released atomic.Int64 // when, in nanoseconds since start
		start    = time.Now()
		wg       sync.WaitGroup
		mu       sync.Mutex // guards gaps
		gaps     []time.Duration
	)
	left.Store(int64(b.N))
	served := make([]int, workers)
	b.ResetTimer()
	for i := range workers {
		c := s.dial(b, i)
		defer c.Close()
		wg.Go(func() {
			for left.Load() > 0 {
				key := c.get(b, "GET /getLock/handoff?timeout=60 HTTP/1.1\r\nHost: localhost\r\n\r\n")
				gap := time.Since(start) - time.Duration(released.Load())
				if left.Add(-1) >= 0 && len(key) == 32 {
					mu.Lock()
					gaps = append(gaps, gap)
					mu.Unlock()
					served[i]++
				}
				released.Store(int64(time.Since(start)))
				c.get(b, "GET /releaseLock/handoff/"+string(key)+" HTTP/1.1\r\nHost: localhost\r\n\r\n")
			}
		})
	}
	wg.Wait()
	slices.Sort(gaps)
	b.ReportMetric(float64(len(gaps))/b.Elapsed().Seconds(), "handoffs/s")
	b.ReportMetric(float64(gaps[len(gaps)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(gaps[len(gaps)*99/100].Microseconds()), "p99-µs")
	if b.N > 100*workers {
		b.ReportMetric(float64(slices.Max(served))/float64(max(1, slices.Min(served))), "most/least")
	}
}

// BenchmarkFsync is the floor of every durable figure: 4 KiB appended and synced, in the directory where the servers of
// this run keep their data.
func BenchmarkFsync(b *testing.B) {
	f, err := os.Create(b.TempDir() + "/log")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	block := make([]byte, 4096)
	for b.Loop() {
		if _, err := f.Write(block); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkClient is what a request costs the client: the load generator's own, and net/http's. The server is the baseline, in
// a process of its own.
func BenchmarkClient(b *testing.B) {
	for _, conns := range []int{1, 64} {
		b.Run(fmt.Sprintf("own/conns=%d", conns), func(b *testing.B) {
			s := startServer(b, "baseline")
			benchmarkClient(b, s, conns, func(i int) func() {
				c := s.dial(b, i)
				b.Cleanup(c.Close)
				return func() { c.get(b, "GET /releaseLock/a/b HTTP/1.1\r\nHost: localhost\r\n\r\n") }
			})
		})
		b.Run(fmt.Sprintf("net-http/conns=%d", conns), func(b *testing.B) {
			s := startServer(b, "baseline")
			transport := &http.Transport{MaxIdleConnsPerHost: conns}
			defer transport.CloseIdleConnections()
			h := &http.Client{Transport: transport}
			benchmarkClient(b, s, conns, func(int) func() {
				return func() { fetch(b, h, "http://"+s.procs[0].addr+"/releaseLock/a/b") }
			})
		})
	}
}

func benchmarkClient(b *testing.B, s *server, conns int, dial func(i int) func()) {
	var next atomic.Int64
	var wg sync.WaitGroup
	own, served := ownCPU(b), s.cpu(b)
	b.ResetTimer()
	for i := range conns {
		get := dial(i)
		wg.Go(func() {
			for next.Add(1) <= int64(b.N) {
				get()
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64((ownCPU(b)-own).Nanoseconds())/1e3/float64(b.N), "client-µs/request")
	b.ReportMetric(float64((s.cpu(b)-served).Nanoseconds())/1e3/float64(b.N), "server-µs/request")
}

func fetch(b *testing.B, h *http.Client, url string) {
	res, err := h.Get(url)
	if err != nil {
		b.Error(err)
		return
	}
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		b.Error(err)
	}
	_ = res.Body.Close()
}

func ownCPU(b *testing.B) time.Duration {
	b.Helper()
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// client is a connection of the load generator.
type client struct {
	*load.Conn
	out []byte
	n   int
}

func dial(tb testing.TB, addr string) *client {
	tb.Helper()
	e, err := load.NewEndpoint("http://"+addr, nil)
	if err != nil {
		tb.Fatal(err)
	}
	conn, err := e.Dial(tb.Context(), time.Minute)
	if err != nil {
		tb.Fatal(err)
	}
	return &client{Conn: conn}
}

func (c *client) pair(tb testing.TB, id int) {
	c.n++
	name := "bench-" + strconv.Itoa(id) + "-" + strconv.Itoa(c.n)
	key := c.get(tb, "GET /getLock/"+name+" HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if len(key) != 32 {
		tb.Errorf("no key: %q", key)
	}
	out := c.get(tb, "GET /releaseLock/"+name+"/"+string(key)+" HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if string(out) != "released" {
		tb.Errorf("not released: %q", out)
	}
}

// get sends a request and returns the body of the answer, which is good until the next one.
func (c *client) get(tb testing.TB, request string) []byte {
	c.out = append(c.out[:0], request...)
	a, err := c.Do(c.out, true)
	if err != nil {
		tb.Error(err)
	}
	return a.Body
}
