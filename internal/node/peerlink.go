package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/doubledutch-lock/doubledutch/internal/peer"
)

const (
	// Connections for Raft's messages that are kept open to each other node.
	raftPool = 3
	// How long Raft waits for an answer; snapshots get longer in proportion to their size.
	raftTimeout = 2 * time.Second
)

// ListenPeer returns a function for Cluster.Listen that opens the real channel. What c says of identity, admission and
// answers is filled in by the node.
func ListenPeer(c peer.Config) func(Hooks) (Transport, error) {
	return func(h Hooks) (Transport, error) {
		c.Self = func() peer.Identity {
			p := h.Self()
			return peer.Identity{ClusterID: p.ClusterID, Name: p.Name, Instance: p.Instance}
		}
		c.Admit = func(from peer.Identity, kind peer.Kind) error { return h.Admit(fromIdentity(from), kind == peer.Join) }
		c.Handle = func(ctx context.Context, from peer.Identity, request []byte) ([]byte, error) {
			return h.Handle(ctx, fromIdentity(from), request)
		}
		p, err := peer.Listen(c)
		if err != nil {
			return nil, err
		}
		return &peerLink{peer: p}, nil
	}
}

func fromIdentity(i peer.Identity) Peer {
	return Peer{ClusterID: i.ClusterID, Name: i.Name, Instance: i.Instance}
}

// peerLink is the channel between nodes over TCP.
type peerLink struct {
	peer *peer.Peer
	raft *raft.NetworkTransport
}

func (l *peerLink) Addr() string { return l.peer.Addr() }

// Raft is called once. One message in flight: with more, a follower whose disk failed for a moment is left behind for
// good while its heartbeats look well.
func (l *peerLink) Raft(logger hclog.Logger) raft.Transport {
	l.raft = raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: l.peer.RaftLayer(), MaxPool: raftPool, MaxRPCsInFlight: 1, Timeout: raftTimeout, Logger: logger,
	})
	return l.raft
}

func (l *peerLink) Call(ctx context.Context, addr string, request []byte) ([]byte, error) {
	answer, err := l.peer.Call(ctx, addr, request)
	return answer, callError(err)
}

func (l *peerLink) Meet(ctx context.Context, addr string, request []byte) ([]byte, error) {
	answer, err := l.peer.Meet(ctx, addr, request)
	return answer, callError(err)
}

func callError(err error) error {
	switch {
	case errors.Is(err, peer.ErrRefused):
		return fmt.Errorf("%w: %w", ErrRefusedByPeer, err)
	case errors.Is(err, peer.ErrUnreachable):
		return fmt.Errorf("%w: %w", ErrNotDelivered, err)
	}
	return err
}

// Stats returns the numbers of the channel.
func (l *peerLink) Stats() peer.Stats { return l.peer.Stats() }

func (l *peerLink) Recheck() { l.peer.Recheck() }

func (l *peerLink) Close() error {
	var err error
	if l.raft != nil {
		err = l.raft.Close()
	}
	return errors.Join(err, l.peer.Close())
}
