package ddtest

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/doubledutch-lock/doubledutch/internal/node"
)

// rpcTimeout is how long the sender of one of Raft's messages waits for its answer.
const rpcTimeout = 500 * time.Millisecond

// network carries the messages between the nodes of a cluster.
type network struct {
	mu    sync.Mutex       // guards links
	links map[string]*link // by address, of the nodes that run
}

// link is a node's end of the network.
type link struct {
	net   *network
	addr  string
	hooks node.Hooks
	raft  *raft.InmemTransport
}

var _ node.Transport = (*link)(nil)

func newNetwork() *network { return &network{links: map[string]*link{}} }

func (w *network) listen(addr string) func(node.Hooks) (node.Transport, error) {
	return func(h node.Hooks) (node.Transport, error) {
		_, tr := raft.NewInmemTransportWithTimeout(raft.ServerAddress(addr), rpcTimeout)
		l := &link{net: w, addr: addr, hooks: h, raft: tr}
		w.mu.Lock()
		defer w.mu.Unlock()
		for a, other := range w.links {
			if a != addr {
				other.raft.Connect(raft.ServerAddress(addr), tr)
				tr.Connect(raft.ServerAddress(a), other.raft)
			}
		}
		w.links[addr] = l
		return l, nil
	}
}

// unplug takes the node at addr out of the network.
func (w *network) unplug(addr string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if l := w.links[addr]; l != nil {
		w.removeLocked(l)
	}
}

func (w *network) removeLocked(l *link) {
	delete(w.links, l.addr)
	l.raft.DisconnectAll()
	for _, other := range w.links {
		other.raft.Disconnect(raft.ServerAddress(l.addr))
	}
}

// at returns the node at addr, or nil if from does not reach it.
func (w *network) at(from *link, addr string) *link {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.links[from.addr] != from {
		return nil
	}
	return w.links[addr]
}

func (l *link) Raft(hclog.Logger) raft.Transport { return l.raft }
func (l *link) Addr() string                     { return l.addr }
func (l *link) Recheck()                         {}

func (l *link) Close() error {
	l.net.mu.Lock()
	defer l.net.mu.Unlock()
	if l.net.links[l.addr] == l {
		l.net.removeLocked(l)
	}
	return l.raft.Close()
}

// Call asks the node at addr. An answer of a node that was unplugged meanwhile does not arrive.
func (l *link) Call(ctx context.Context, addr string, request []byte) ([]byte, error) {
	to := l.net.at(l, addr)
	if to == nil {
		return nil, fmt.Errorf("%w: no node at %s", node.ErrNotDelivered, addr)
	}
	self := l.hooks.Self()
	if err := to.hooks.Admit(self, self.ClusterID == ""); err != nil {
		return nil, fmt.Errorf("%w: %w", node.ErrRefusedByPeer, err)
	}
	answer, err := to.hooks.Handle(ctx, self, request)
	if err == nil && l.net.at(l, addr) != to {
		return nil, fmt.Errorf("node at %s: the connection was lost", addr)
	}
	return answer, err
}
