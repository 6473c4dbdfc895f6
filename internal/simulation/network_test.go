package simulation

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/doubledutch-lock/doubledutch/internal/node"
)

// road is how messages fare from one machine to another, in one direction.
type road struct {
	cut     bool          // nothing gets through, and nobody is told
	refused bool          // with cut: the sender learns at once that nothing was delivered
	drop    float64       // share that is lost
	twice   float64       // share that arrives a second time, later
	delay   time.Duration // the most that is added to a message's way
}

const (
	// How long the sender of one of Raft's messages waits for an answer, as over TCP.
	rpcPatience = 2 * time.Second
	// How late the second copy of a message may come.
	twiceWithin = 3 * time.Second
)

var errLost = errors.New("no answer came")

// network carries messages between the machines. Faults are set per direction.
type network struct {
	count *counters

	mu    sync.Mutex // guards all below
	rand  *rand.Rand
	roads map[[2]string]road
	ends  map[string]*end // by address, of the processes that run
	// How often a process was told that another one has its snapshot.
	installed map[installation]int
}

// installation is the snapshot up to entry index on its way between two processes.
type installation struct {
	from, to *life
	index    uint64
}

func newNetwork(seed uint64, c *counters) *network {
	return &network{
		count: c, rand: rand.New(rand.NewPCG(seed, 11)), roads: map[[2]string]road{}, ends: map[string]*end{},
		installed: map[installation]int{},
	}
}

// set changes the road between two addresses, in that direction.
func (w *network) set(from, to string, r road) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.roads[[2]string{from, to}] = r
}

// heal makes all roads good.
func (w *network) heal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.roads)
}

// fate is what becomes of one message.
type fate struct {
	to             *end
	lost, refused  bool
	delay, another time.Duration // another: when a second copy arrives; 0: none does
}

func (w *network) fate(from, to string) fate {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.roads[[2]string{from, to}]
	f := fate{to: w.ends[to], delay: 100*time.Microsecond + time.Duration(w.rand.Int64N(int64(time.Millisecond)))}
	if r.delay > 0 {
		f.delay += time.Duration(w.rand.Int64N(int64(r.delay)))
		w.count.add("delayed messages", 1)
	}
	switch {
	case f.to == nil:
		f.lost, f.refused = true, true
	case r.cut:
		f.lost, f.refused = true, r.refused
		w.count.add("cut messages", 1)
	case r.drop > 0 && w.rand.Float64() < r.drop:
		f.lost = true
		w.count.add("dropped messages", 1)
	case r.twice > 0 && w.rand.Float64() < r.twice:
		f.another = time.Duration(w.rand.Int64N(int64(twiceWithin)))
		w.count.add("doubled messages", 1)
	}
	return f
}

// end is a process's end of the network: its node.Transport and its raft.Transport.
type end struct {
	net   *network
	life  *life
	addr  string
	hooks node.Hooks
	rpcs  chan raft.RPC

	mu        sync.Mutex // guards heartbeat
	heartbeat func(raft.RPC)
}

var (
	_ node.Transport   = (*end)(nil)
	_ raft.WithPreVote = (*end)(nil)
)

func (w *network) listen(l *life, addr string) func(node.Hooks) (node.Transport, error) {
	return func(h node.Hooks) (node.Transport, error) {
		e := &end{net: w, life: l, addr: addr, hooks: h, rpcs: make(chan raft.RPC)}
		w.mu.Lock()
		defer w.mu.Unlock()
		if l.isDead() {
			return nil, errDead
		}
		w.ends[addr] = e
		return e, nil
	}
}

// unplug takes the process out of the network.
func (w *network) unplug(l *life, addr string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e := w.ends[addr]; e != nil && e.life == l {
		delete(w.ends, addr)
	}
}

func (e *end) Raft(hclog.Logger) raft.Transport { return e }
func (e *end) Addr() string                     { return e.addr }
func (e *end) Recheck()                         {}
func (e *end) Close() error                     { e.net.unplug(e.life, e.addr); return nil }

// Call carries a request to the node at addr. What is lost, either way, has an unknown outcome after a while; only what was
// refused is known not to have been delivered.
func (e *end) Call(ctx context.Context, addr string, request []byte) ([]byte, error) {
	if err := e.life.thaw(ctx.Done()); err != nil {
		return nil, fmt.Errorf("%w: %w", node.ErrNotDelivered, err)
	}
	f := e.net.fate(e.addr, addr)
	if f.refused {
		return nil, fmt.Errorf("%w: connection refused", node.ErrNotDelivered)
	}
	type answer struct {
		data []byte
		err  error
	}
	got := make(chan answer, 2)
	serve := func(after time.Duration) {
		time.Sleep(after)
		if f.to.life.thaw(nil) != nil {
			return
		}
		a := answer{}
		self := e.hooks.Self()
		if err := f.to.hooks.Admit(self, self.ClusterID == ""); err != nil {
			a.err = fmt.Errorf("%w: %w", node.ErrRefusedByPeer, err)
		} else {
			a.data, a.err = f.to.hooks.Handle(ctx, self, slices.Clone(request))
		}
		if f.to.life.thaw(nil) != nil {
			return
		}
		back := e.net.fate(f.to.addr, e.addr)
		if back.lost {
			e.net.count.add("lost answers", 1)
			return
		}
		time.Sleep(back.delay)
		got <- a
	}
	if !f.lost {
		// A connection does not double a request, but one may come so late that its repetition has been answered.
		go serve(max(f.delay, f.another))
	}
	select {
	case a := <-got:
		if err := e.life.thaw(ctx.Done()); err != nil {
			return nil, err
		}
		return a.data, a.err
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", errLost, ctx.Err())
	case <-e.life.dead:
		return nil, errDead
	case <-f.to.life.dead:
		time.Sleep(time.Millisecond)
		select {
		case a := <-got: // it was on its way already
			return a.data, a.err
		default:
			return nil, errLost
		}
	}
}

// What Raft needs.

func (e *end) Consumer() <-chan raft.RPC     { return e.rpcs }
func (e *end) LocalAddr() raft.ServerAddress { return raft.ServerAddress(e.addr) }

func (e *end) EncodePeer(_ raft.ServerID, a raft.ServerAddress) []byte { return []byte(a) }
func (e *end) DecodePeer(b []byte) raft.ServerAddress                  { return raft.ServerAddress(b) }

func (e *end) SetHeartbeatHandler(f func(raft.RPC)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.heartbeat = f
}

// AppendEntriesPipeline is not supported, as in the real channel with one message in flight.
func (e *end) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported
}

func (e *end) AppendEntries(_ raft.ServerID, to raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	return send(e, to, func() any { return copyAppend(args) }, resp, true)
}

func (e *end) RequestVote(_ raft.ServerID, to raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return send(e, to, func() any { a := *args; return &a }, resp, true)
}

func (e *end) RequestPreVote(_ raft.ServerID, to raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return send(e, to, func() any { a := *args; return &a }, resp, true)
}

func (e *end) TimeoutNow(_ raft.ServerID, to raft.ServerAddress, args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	return send(e, to, func() any { a := *args; return &a }, resp, true)
}

// copyAppend copies what the two sides must not share.
func copyAppend(a *raft.AppendEntriesRequest) *raft.AppendEntriesRequest {
	c := *a
	c.Entries = make([]*raft.Log, len(a.Entries))
	for i, l := range a.Entries {
		n := *l
		n.Data = slices.Clone(l.Data)
		c.Entries[i] = &n
	}
	return &c
}

// send carries one of Raft's messages and its answer. A message may arrive twice; nobody reads the second answer.
func send[R any](e *end, to raft.ServerAddress, message func() any, resp *R, mayDouble bool) error {
	if err := e.life.thaw(nil); err != nil {
		return err
	}
	f := e.net.fate(e.addr, string(to))
	if f.refused {
		return errors.New("connection refused")
	}
	got := make(chan raft.RPCResponse, 2)
	if !f.lost {
		m := message()
		go e.deliver(f, f.delay, raft.RPC{Command: m}, got)
		if f.another > 0 && mayDouble {
			go e.deliver(f, f.another, raft.RPC{Command: m}, make(chan raft.RPCResponse, 2))
		}
	}
	r, err := e.await(got, f.to.life, rpcPatience)
	if err != nil {
		return err
	}
	*resp = *r.(*R)
	return nil
}

// await waits for an answer. The connection breaks when the other process ends.
func (e *end) await(got <-chan raft.RPCResponse, to *life, patience time.Duration) (any, error) {
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case r := <-got:
		if err := e.life.thaw(nil); err != nil {
			return nil, err
		}
		return r.Response, r.Error
	case <-t.C:
		return nil, errLost
	case <-to.dead:
		time.Sleep(time.Millisecond)
		return nil, errLost
	case <-e.life.dead:
		return nil, errDead
	}
}

// deliver hands a message to the other side and brings the answer back.
func (e *end) deliver(f fate, after time.Duration, rpc raft.RPC, got chan<- raft.RPCResponse) {
	time.Sleep(after)
	if f.to.life.thaw(nil) != nil {
		return
	}
	answer := make(chan raft.RPCResponse, 1)
	rpc.RespChan = answer
	if h := f.to.heartbeatFor(rpc.Command); h != nil {
		h(rpc)
	} else {
		select {
		case f.to.rpcs <- rpc:
		case <-f.to.life.dead:
			return
		}
	}
	select {
	case r := <-answer:
		if f.to.life.thaw(nil) != nil {
			return
		}
		back := e.net.fate(f.to.addr, e.addr)
		if back.lost {
			return
		}
		time.Sleep(back.delay)
		got <- r
	case <-f.to.life.dead:
	}
}

// heartbeatFor returns the fast way for a message that is a mere heartbeat, as the real transport knows it, or nil.
func (e *end) heartbeatFor(m any) func(raft.RPC) {
	a, ok := m.(*raft.AppendEntriesRequest)
	if !ok || a.PrevLogEntry != 0 || a.PrevLogTerm != 0 || len(a.Entries) > 0 || a.LeaderCommitIndex != 0 {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.heartbeat
}
