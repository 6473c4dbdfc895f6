package ddtest

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/node"
)

// patience is how long the kit waits for its own cluster. Only something that hangs, or a cluster whose majority was killed,
// takes so long.
const patience = 30 * time.Second

// Server is a DoubleDutch of one node or several inside the test process. Its methods may be called while clients use it, but
// only from the goroutine that runs the test: when one of them cannot do its work, it ends the test with Fatal.
type Server struct {
	t        testing.TB
	config   config
	log      *slog.Logger
	client   *http.Client
	machines []*machine
	network  *network
	clock    clock
	book     book
	faults   faults
	gate     gate
	working  sync.WaitGroup // goroutines of the kit, and requests under way

	mu     sync.Mutex // guards closed
	closed bool       // no request begins any more
}

// Option changes what Start starts.
type Option func(*config)

type config struct {
	nodes    int
	inMemory bool
	apiKey   string
	verbose  bool
}

// Nodes makes a cluster of n nodes, each with its own endpoint. A cluster of three survives the loss of one. It takes a second or
// two to start, or to fail over; inside a synctest bubble that is virtual time.
func Nodes(n int) Option { return func(c *config) { c.nodes = n } }

// InMemory lets clients reach the server only through HTTPClient, over connections in memory. Inside a testing/synctest bubble
// there is no other way: a goroutine that waits for a socket keeps the time of the bubble from passing.
func InMemory() Option { return func(c *config) { c.inMemory = true } }

// APIKey lets the server ask for a key, as --api-key does.
func APIKey(key string) Option { return func(c *config) { c.apiKey = key } }

// Verbose writes what the nodes log to the log of the test.
func Verbose() Option { return func(c *config) { c.verbose = true } }

// Start runs a server until the end of the test, and returns when it serves. If it cannot, it ends the test.
func Start(t testing.TB, options ...Option) *Server {
	t.Helper()
	c := config{nodes: 1}
	for _, o := range options {
		o(&c)
	}
	if c.nodes < 1 || c.nodes > 9 {
		t.Fatalf("ddtest: a cluster has 1 to 9 nodes, not %d", c.nodes)
	}
	if !c.inMemory && inBubble() {
		t.Fatal("ddtest: inside a testing/synctest bubble the server must be started with ddtest.InMemory()")
	}
	s := &Server{t: t, config: c, log: slog.New(slog.DiscardHandler), network: newNetwork()}
	var log *testLog
	if c.verbose {
		log = &testLog{t: t}
		s.log = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	s.book.holds = map[string]map[string]uint64{}
	s.faults.ended = make(chan struct{})
	t.Cleanup(func() {
		s.close()
		if log != nil {
			log.end()
		}
	})
	s.open()
	return s
}

// inBubble tells whether this goroutine runs in a synctest bubble, whose clock begins in the year 2000.
func inBubble() bool { return time.Now().Year() < 2020 }

// open starts all nodes and waits until a lock can be had from each.
func (s *Server) open() {
	s.t.Helper()
	for i := range s.config.nodes {
		m, err := newMachine(s, i)
		if err != nil {
			s.t.Fatalf("ddtest: %v", err)
		}
		s.machines = append(s.machines, m)
	}
	s.client = s.newHTTPClient()
	s.bootAll()
}

// bootAll starts all nodes that do not run.
func (s *Server) bootAll() {
	s.t.Helper()
	errs := make([]error, len(s.machines))
	var starting sync.WaitGroup
	for i, m := range s.machines {
		if m.running() == nil {
			starting.Go(func() { errs[i] = m.boot() })
		}
	}
	starting.Wait()
	for i, err := range errs {
		if err != nil {
			s.t.Fatalf("ddtest: node %d did not start: %v", i, err)
		}
	}
}

// close ends everything that Start began, and waits for it.
func (s *Server) close() {
	s.faults.end()
	if s.client != nil {
		s.client.CloseIdleConnections()
	}
	for _, m := range s.machines {
		m.kill()
	}
	for _, m := range s.machines {
		m.doorway.close()
	}
	s.gate.open()
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.working.Wait()
}

// begin counts a request among what is working, unless the server is closed.
func (s *Server) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.working.Add(1)
	}
	return !s.closed
}

// URL is the address of the first node, such as http://127.0.0.1:41237.
func (s *Server) URL() string { return s.machines[0].doorway.url }

// Endpoints are the addresses of all nodes. They stay the same when a node is killed and started again.
func (s *Server) Endpoints() []string {
	var urls []string
	for _, m := range s.machines {
		urls = append(urls, m.doorway.url)
	}
	return urls
}

// HTTPClient returns a client that reaches the nodes, and nothing else if the server was started with InMemory. It is always the
// same, and must not be changed; it has no timeout of its own.
func (s *Server) HTTPClient() *http.Client { return s.client }

// member returns a node that runs, the leader if there is one, or nil.
func (s *Server) member() *node.Node {
	var any *node.Node
	for _, m := range s.machines {
		if n := m.running(); n != nil {
			if any = n; n.Leads() {
				return n
			}
		}
	}
	return any
}

// poll calls done until it returns nil, and ends the test with what it returned last when that takes too long.
func (s *Server) poll(what string, done func(ctx context.Context, n *node.Node) error) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		err := errNoNode
		if n := s.member(); n != nil {
			err = done(ctx, n)
		}
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			s.t.Fatalf("ddtest: %s: not within %v: %v", what, patience, err)
		}
	}
}

var errNoNode = fmt.Errorf("no node runs")

// testLog writes lines to the log of a test until its end.
type testLog struct {
	mu sync.Mutex // guards t
	t  testing.TB // nil after the end
}

var _ io.Writer = (*testLog)(nil)

func (l *testLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.t != nil {
		l.t.Logf("%s", p[:max(len(p)-1, 0)])
	}
	return len(p), nil
}

func (l *testLog) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.t = nil
}
