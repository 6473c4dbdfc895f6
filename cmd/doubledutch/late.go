package main

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
	"github.com/doubledutch-lock/doubledutch/internal/node"
)

// lateNode is a server.Backend whose node may come later. A node of a cluster is there only when it has found the others,
// which can take any time; until then its door says that it is alive and not ready, and sends clients elsewhere.
type lateNode struct {
	node atomic.Pointer[node.Node]
}

var errNotThere = fmt.Errorf("%w: this node is still looking for the others", node.ErrUnavailable)

// come lets n answer from now on.
func (l *lateNode) come(n *node.Node) { l.node.Store(n) }

// Propose is part of server.Backend.
func (l *lateNode) Propose(ctx context.Context, c *command.Command) (locktable.Outcome, error) {
	if n := l.node.Load(); n != nil {
		return n.Propose(ctx, c)
	}
	return locktable.Outcome{}, errNotThere
}

// Acquire is part of server.Backend.
func (l *lateNode) Acquire(ctx context.Context, a *command.Acquire, s node.Slice) (locktable.Outcome, error) {
	if n := l.node.Load(); n != nil {
		return n.Acquire(ctx, a, s)
	}
	return locktable.Outcome{}, errNotThere
}

// ClaimTask is part of server.Backend.
func (l *lateNode) ClaimTask(ctx context.Context, a *command.ClaimTask, s node.Slice) (locktable.Outcome, error) {
	if n := l.node.Load(); n != nil {
		return n.ClaimTask(ctx, a, s)
	}
	return locktable.Outcome{}, errNotThere
}

// Abandon is part of server.Backend.
func (l *lateNode) Abandon(key string, attachment uint64) {
	if n := l.node.Load(); n != nil {
		n.Abandon(key, attachment)
	}
}

// AbandonLater is part of server.Backend.
func (l *lateNode) AbandonLater(key string, attachment uint64) {
	if n := l.node.Load(); n != nil {
		n.AbandonLater(key, attachment)
	}
}

// Read is part of server.Backend.
func (l *lateNode) Read(ctx context.Context, f func(t *locktable.Table, now locktable.Time)) error {
	if n := l.node.Load(); n != nil {
		return n.Read(ctx, f)
	}
	return errNotThere
}

// ReadStale is part of server.Backend.
func (l *lateNode) ReadStale(f func(t *locktable.Table, index uint64, age time.Duration)) {
	if n := l.node.Load(); n != nil {
		n.ReadStale(f)
	}
}

// Events is part of server.Backend.
func (l *lateNode) Events(ctx context.Context, after *node.EventID, want func(*locktable.Event) bool) (*node.Events, error) {
	if n := l.node.Load(); n != nil {
		return n.Events(ctx, after, want)
	}
	return nil, errNotThere
}

// Members is part of server.Backend.
func (l *lateNode) Members(ctx context.Context) []node.MemberStatus {
	if n := l.node.Load(); n != nil {
		return n.Members(ctx)
	}
	return nil
}

// SetCalendar is part of server.Backend.
func (l *lateNode) SetCalendar(ctx context.Context, force bool) (locktable.Outcome, error) {
	if n := l.node.Load(); n != nil {
		return n.SetCalendar(ctx, force)
	}
	return locktable.Outcome{}, errNotThere
}

// Add is part of server.Backend.
func (l *lateNode) Add(name, addr string) error {
	return l.change(name, func(n *node.Node, name string) error { return n.Add(name, addr) })
}

// Remove is part of server.Backend.
func (l *lateNode) Remove(name string) error { return l.change(name, (*node.Node).Remove) }

// Promote is part of server.Backend.
func (l *lateNode) Promote(name string) error { return l.change(name, (*node.Node).Promote) }

// Transfer is part of server.Backend.
func (l *lateNode) Transfer(name string) error { return l.change(name, (*node.Node).Transfer) }

func (l *lateNode) change(name string, how func(*node.Node, string) error) error {
	if n := l.node.Load(); n != nil {
		return how(n, name)
	}
	return errNotThere
}

// Backup is part of server.Backend.
func (l *lateNode) Backup(ctx context.Context, version string) (io.ReadCloser, error) {
	if n := l.node.Load(); n != nil {
		return n.Backup(ctx, version)
	}
	return nil, errNotThere
}

// Status is part of server.Backend.
func (l *lateNode) Status() node.Status {
	if n := l.node.Load(); n != nil {
		return n.Status()
	}
	return node.Status{Reason: "this node is still looking for the others"}
}

// ClusterStats is part of server.Backend.
func (l *lateNode) ClusterStats() node.ClusterStats {
	if n := l.node.Load(); n != nil {
		return n.ClusterStats()
	}
	return node.ClusterStats{}
}

// StopWaiting is part of server.Backend.
func (l *lateNode) StopWaiting() {
	if n := l.node.Load(); n != nil {
		n.StopWaiting()
	}
}
