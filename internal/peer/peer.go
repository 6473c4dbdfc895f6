package peer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// Config says how a node takes part. Self and Handle are required.
type Config struct {
	Listen    string    // host:port to bind
	Advertise string    // host:port that others dial; empty: the bound address
	TLS       *TLSFiles // nil: plain TCP, between loopback addresses only unless Insecure
	Insecure  bool      // plain TCP with anybody: whoever reaches the port can write into the log
	// Self is asked for each connection and each call, as a joining node learns its cluster's id only later. It must
	// be quick.
	Self func() Identity
	// Admit decides about a connection, on both sides of it: for the acceptor remote is who dials, for the dialler it
	// is who answered. The cluster ids are equal already, unless kind is Join. Nil admits; the error's text, one
	// sentence, is told to the other side. A nil function admits all.
	Admit func(remote Identity, kind Kind) error
	// Handle answers calls, each in its own goroutine. It owns request. from.ClusterID is empty when the caller does
	// not belong to a cluster yet. ctx ends when the caller has given up or is gone and when the Peer closes; Handle
	// must return then, as Close waits for it. The text of its error reaches the caller as a RemoteError.
	Handle func(ctx context.Context, from Identity, request []byte) ([]byte, error)
	Logger *slog.Logger // nil: no log
	// Network is where connections come from; nil: TCP. Tests have one in memory, where any address will do.
	Network Network
}

// Peer is a node's end of the channel. Its methods may be called at the same time.
type Peer struct {
	config   Config
	log      *slog.Logger
	network  Network
	creds    *credentials // nil: plain
	listener net.Listener
	addr     address
	raft     *raftLayer
	busy     *gate // calls being handled, over all connections

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	stats             counters
	strangers, denied seldom

	mu          sync.Mutex // guards what follows
	closed      bool
	conns       map[*conn]struct{} // all, both directions
	accepted    int
	greeting    int // accepted ones in their handshake
	perHost     map[string]int
	greetHost   map[string]int
	perInstance map[string]int
	links       map[string]*link
}

// Listen opens the listener and begins to accept.
func Listen(c Config) (*Peer, error) {
	if c.Self == nil || c.Handle == nil {
		return nil, errors.New("peer: Self and Handle are required")
	}
	p := newPeer(c)
	if c.TLS != nil {
		var err error
		if p.creds, err = newCredentials(*c.TLS, p.log); err != nil {
			return nil, err
		}
	}
	if err := p.bind(); err != nil {
		return nil, err
	}
	p.wg.Go(p.accept)
	return p, nil
}

func newPeer(c Config) *Peer {
	p := &Peer{
		config: c, log: c.Logger, network: c.Network, busy: newGate(totalCalls, totalBytes),
		conns: map[*conn]struct{}{}, perHost: map[string]int{}, greetHost: map[string]int{}, perInstance: map[string]int{},
		links: map[string]*link{},
	}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	if p.network == nil {
		p.network = tcp{open: c.TLS != nil || c.Insecure}
	}
	p.raft = newRaftLayer(p)
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

func (p *Peer) bind() error {
	l, err := p.network.Listen(p.config.Listen)
	if err != nil {
		return fmt.Errorf("listen for the cluster: %w", err)
	}
	p.listener, p.addr = l, address(p.config.Advertise)
	if p.addr == "" {
		p.addr = address(l.Addr().String())
	}
	if _, real := p.network.(tcp); !real {
		return nil
	}
	if err := checkAdvertise(string(p.addr)); err != nil {
		_ = l.Close()
		return err
	}
	return nil
}

// Addr is the address that others dial.
func (p *Peer) Addr() string { return string(p.addr) }

// BoundAddr is the address that the listener is bound to.
func (p *Peer) BoundAddr() string { return p.listener.Addr().String() }

// RaftLayer is what raft's NetworkTransport runs on. Closing it ends raft's connections and not the Peer.
func (p *Peer) RaftLayer() raft.StreamLayer { return p.raft }

// Close ends all connections and returns when every goroutine, those of Handle included, has ended. It must not be
// called from Handle, Admit or Self.
func (p *Peer) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		p.wg.Wait()
		return nil
	}
	p.closed = true
	p.mu.Unlock()
	p.cancel()
	err := p.listener.Close()
	_ = p.raft.Close()
	for _, c := range p.connections() {
		c.abort()
	}
	p.wg.Wait()
	return err
}

// Recheck asks Admit again about every connection and ends those that it refuses now. Call it when the membership
// has changed.
func (p *Peer) Recheck() {
	for _, c := range p.connections() {
		remote, kind := c.who()
		if remote.Name == "" {
			continue // still in its handshake; Admit will be asked anyway
		}
		if err := p.admit(remote, kind); err != nil {
			p.log.Warn("a peer is disconnected", "name", remote.Name, "kind", kind.String(), "reason", err)
			c.abort()
		}
	}
}

func (p *Peer) admit(remote Identity, kind Kind) error {
	if p.config.Admit == nil {
		return nil
	}
	return p.config.Admit(remote, kind)
}

// connections lists those there are now.
func (p *Peer) connections() []*conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]*conn, 0, len(p.conns))
	for c := range p.conns {
		all = append(all, c)
	}
	return all
}

// spawn runs f in a goroutine that Close waits for. It returns false when the Peer is closed.
func (p *Peer) spawn(f func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.wg.Go(f)
	return true
}

// within is a context of the Peer that ends after d at the latest.
func (p *Peer) within(d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(p.ctx, d)
}
