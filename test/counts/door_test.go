//go:build linux && !race

package counts

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/load"
	"github.com/doubledutch-lock/doubledutch/internal/node"
	"github.com/doubledutch-lock/doubledutch/internal/server"
	"github.com/doubledutch-lock/doubledutch/test/rig"
)

// patience bounds what only something that hangs will miss.
const patience = 2 * time.Minute

// door is a volatile server in this process, so that its memory can be looked at.
type door struct {
	node     *node.Node
	endpoint *load.Endpoint
	port     int
}

func openDoor(t *testing.T) *door {
	t.Helper()
	n, err := node.Open(t.Context(), node.Config{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := server.New(server.Config{Backend: n, Listen: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve() }()
	t.Cleanup(func() {
		n.StopWaiting()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		for _, err := range []error{s.Shutdown(ctx), <-served, n.Close()} {
			if err != nil {
				t.Error(err)
			}
		}
	})
	e, err := load.NewEndpoint("http://"+s.Addr().String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return &door{node: n, endpoint: e, port: s.Addr().(*net.TCPAddr).Port}
}

func (d *door) dial(t *testing.T) *client {
	t.Helper()
	return dial(t, d.endpoint)
}

// client is a connection that allocates nothing with its requests.
type client struct {
	t    *testing.T
	conn *load.Conn
	out  []byte
}

func dial(t *testing.T, e *load.Endpoint) *client {
	t.Helper()
	c, err := e.Dial(context.Background(), patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return &client{t: t, conn: c, out: make([]byte, 0, 1024)}
}

const tail = " HTTP/1.1\r\nHost: localhost\r\n\r\n"

// get asks by the seed interface. The answer is good until the next request.
func (c *client) get(path ...[]byte) []byte {
	c.write(path...)
	a, err := c.conn.Do(c.out, false)
	if err != nil || a.Status != 200 {
		c.t.Fatalf("%s: %d %s %v", c.out, a.Status, a.Body, err)
	}
	return a.Body
}

func (c *client) write(path ...[]byte) {
	c.out = append(c.out[:0], "GET "...)
	for _, p := range path {
		c.out = append(c.out, p...)
	}
	c.out = append(c.out, tail...)
}

// Whole requests: the system's and net/http's part, the handler, the log, the table and the answer. On one processor and on two, since
// batches and pools differ.
func TestRequestsAllocateLittle(t *testing.T) {
	for _, procs := range []int{1, 2} {
		t.Run(fmt.Sprintf("GOMAXPROCS=%d", procs), func(t *testing.T) {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
			p := newPairs(openDoor(t).dial(t), 1000)
			p.acquire() // fills the pools
			p.release()
			acquire, release := math.MaxFloat64, math.MaxFloat64
			for range 3 { // the least of them: a garbage collection empties the pools
				acquire = min(acquire, p.allocations(p.acquire))
				release = min(release, p.allocations(p.release))
			}
			wholeAcquire.holds(t, acquire)
			wholeRelease.holds(t, release)
		})
	}
}

// pairs takes locks and gives them back, by one connection, without an allocation of its own.
type pairs struct {
	c     *client
	names []string
	keys  [][]byte
}

func newPairs(c *client, n int) *pairs {
	p := &pairs{c: c}
	for i := range n {
		p.names = append(p.names, fmt.Sprintf("/getLock/lock-%d", i))
		p.keys = append(p.keys, make([]byte, rig.KeyLength))
	}
	return p
}

func (p *pairs) acquire() {
	for i, name := range p.names {
		if n := copy(p.keys[i], p.c.get([]byte(name))); n != rig.KeyLength {
			p.c.t.Fatalf("%s was not granted", name)
		}
	}
}

func (p *pairs) release() {
	for i, name := range p.names {
		if got := p.c.get([]byte("/releaseLock"), []byte(name[len("/getLock"):]), []byte("/"), p.keys[i]); string(got) != "released" {
			p.c.t.Fatalf("%s was not released: %s", name, got)
		}
	}
}

// allocations returns how many the whole process makes for each of the pairs while f runs.
func (p *pairs) allocations(f func()) float64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / float64(len(p.names))
}
