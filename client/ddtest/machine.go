package ddtest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
	"github.com/doubledutch-lock/doubledutch/internal/node"
	"github.com/doubledutch-lock/doubledutch/internal/server"
	"github.com/doubledutch-lock/doubledutch/internal/storage"
)

// machine is where the processes of one node run, one after another. What they wrote to its disk stays.
type machine struct {
	s          *Server
	name, addr string
	disk       *storage.Memory
	doorway    *doorway

	mu   sync.Mutex // guards life
	life *life      // nil: nothing runs
}

// life is one process: a node and its door.
type life struct {
	node *node.Node
	http *http.Server
	dead *atomic.Bool
}

func newMachine(s *Server, i int) (*machine, error) {
	m := &machine{s: s, name: fmt.Sprintf("n%d", i+1), addr: fmt.Sprintf("node-%d", i+1), disk: storage.NewMemory()}
	if s.config.inMemory {
		m.doorway = newDoorway(s, nil, "http://"+m.name+memoryDomain)
		return m, nil
	}
	ln, err := listenLoopback()
	if err != nil {
		return nil, err
	}
	m.doorway = newDoorway(s, ln, "http://"+ln.Addr().String())
	return m, nil
}

// running returns the node if it serves, or nil.
func (m *machine) running() *node.Node {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.life == nil {
		return nil
	}
	return m.life.node
}

// boot starts a process on the machine, on which none runs, and returns when it serves.
func (m *machine) boot() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	l := &life{dead: new(atomic.Bool)}
	metrics := server.NewMetrics()
	var err error
	l.node, err = node.Open(ctx, node.Config{
		Dir: "in memory", Logger: m.s.log, Version: version, Observer: &observer{metrics, &m.s.book}, Cluster: m.cluster(),
		Fatal: func(err error) { m.failed(l, err) },
		Simulation: &node.Simulation{
			Open:    func(o storage.Options) (*storage.Store, error) { return storage.OpenOn(o, m.disk.Attach(l.dead.Load)) },
			Elapsed: m.s.clock.elapsed,
			Wall:    m.s.clock.wall,
		},
	})
	if err != nil {
		return err
	}
	door, err := server.New(server.Config{
		Backend: l.node, APIKey: m.s.config.apiKey, Version: version, Listen: "127.0.0.1:0", Logger: m.s.log, Metrics: metrics,
		AllowedHosts: []string{m.name + memoryDomain},
	})
	if err != nil {
		return errors.Join(err, l.node.Close())
	}
	m.serve(l, door.Handler())
	return nil
}

// version is what the server says of itself.
const version = "ddtest"

// cluster is how the node belongs to the others; nil if it is alone.
func (m *machine) cluster() *node.Cluster {
	if m.s.config.nodes == 1 {
		return nil
	}
	members := map[string]string{}
	for _, o := range m.s.machines {
		members[o.name] = o.addr
	}
	return &node.Cluster{Name: m.name, Members: members, Listen: m.s.network.listen(m.addr)}
}

// serve opens the door of a process.
func (m *machine) serve(l *life, door http.Handler) {
	var p http.Protocols
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(true)
	// A context that ends with the process, so that no request outlives it.
	ctx, cancel := context.WithCancel(context.Background())
	l.http = &http.Server{
		Handler: m.s.faults.wrap(ctx, m.s, door), Protocols: &p, ReadHeaderTimeout: time.Minute,
		ErrorLog: discardLog(),
	}
	ln := m.doorway.open()
	m.mu.Lock()
	m.life = l
	m.mu.Unlock()
	m.s.working.Go(func() {
		defer cancel()
		_ = l.http.Serve(ln)
	})
}

// failed is told when the process of l would end itself. What is left of one that was killed may well find so.
func (m *machine) failed(l *life, err error) {
	if !l.dead.Load() {
		m.s.t.Errorf("ddtest: node %s has failed: %v", m.name, err)
	}
}

// kill ends the process at once: nothing that it does reaches its disk, another node or a client any more.
func (m *machine) kill() {
	m.mu.Lock()
	l := m.life
	m.life = nil
	m.mu.Unlock()
	if l == nil {
		return
	}
	l.dead.Store(true)
	m.s.network.unplug(m.addr)
	m.doorway.shut()
	_ = l.http.Close()
	m.s.working.Go(func() { _ = l.node.Close() })
}

// observer tells the book of grants what was applied, and the metrics, too.
type observer struct {
	*server.Metrics
	book *book
}

func (o *observer) Applied(cmds []*command.Command, out []locktable.Outcome, events []locktable.Event) {
	o.book.note(events)
	o.Metrics.Applied(cmds, out, events)
}
