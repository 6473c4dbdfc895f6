package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

// How long a read may take: an election, and a bit.
const readPatience = leaderPatience + time.Second

// Propose brings c into the log and returns its outcome. When ctx ends first, or the log does not answer for about 5 s,
// the error wraps ErrUnknown: the command may still take effect. The node may read c until then.
func (n *Node) Propose(ctx context.Context, c *command.Command) (locktable.Outcome, error) {
	p, err := n.enqueue(c)
	if err != nil {
		return locktable.Outcome{}, err
	}
	return n.await(ctx, p)
}

// await returns what comes of p.
func (n *Node) await(ctx context.Context, p *proposal) (locktable.Outcome, error) {
	var err error
	select {
	case <-p.done:
		return n.result(p)
	case <-ctx.Done():
		err = ctx.Err()
	case <-n.stall.stalled():
		err = errStalled
	}
	// Whoever finishes p later finds room in its channel; nobody recycles it.
	return locktable.Outcome{}, fmt.Errorf("%w: %w", ErrUnknown, err)
}

func (n *Node) result(p *proposal) (locktable.Outcome, error) {
	out, err := p.out, p.err
	n.proposals.put(p)
	return out, err
}

// enqueue puts c into the queue of the log, unless it is a new burden that cannot be taken on now.
func (n *Node) enqueue(c *command.Command) (*proposal, error) { return n.enqueueIn(0, c) }

// enqueueIn is enqueue for a command that is void in every other term, unless that is 0.
func (n *Node) enqueueIn(term uint64, c *command.Command) (*proposal, error) {
	if err := command.Check(c); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if err := n.checkLevel(c); err != nil {
		return nil, err
	}
	most := 2 * maxPending
	if n.isBurden(c) {
		if err := n.refuseBurden(); err != nil {
			return nil, err
		}
		most = maxPending
	}
	p := n.proposals.get(c)
	p.term = term
	if err := n.queue.put(p, most); err != nil {
		n.proposals.put(p)
		return nil, err
	}
	return p, nil
}

// refuseBurden returns why nothing new can be taken on, or nil.
func (n *Node) refuseBurden() error {
	if n.store.Full() {
		return ErrDiskFull
	}
	select {
	case <-n.stall.stalled():
		return fmt.Errorf("%w: %w", ErrUnavailable, errStalled)
	default:
		return nil
	}
}

// isBurden tells whether c asks for something that is not there yet. An acquire with a known key is a repetition.
func (n *Node) isBurden(c *command.Command) bool {
	if c.GetOpenSession() != nil {
		return true
	}
	a := asQueueing(c)
	if a == nil {
		return false
	}
	if !n.store.Full() {
		return true
	}
	known := false
	if key, ok := locktable.ParseKey(a.GetKey()); ok {
		n.fsm.view(func(t *locktable.Table) { _, known = t.Key(key) })
	}
	return !known
}

// Read calls f with the table and the present cluster time. What was acknowledged before the call, by whichever node, is
// seen. f must be brief, since nothing is applied meanwhile, and must keep no reference to the table.
func (n *Node) Read(ctx context.Context, f func(t *locktable.Table, now locktable.Time)) error {
	patient, cancel := context.WithTimeout(ctx, readPatience)
	defer cancel()
	at, err := n.awaitReadAt(patient)
	if err == nil {
		err = n.fsm.awaitApplied(patient, at.GetIndex())
	}
	switch {
	case err != nil && patient.Err() != nil && ctx.Err() == nil:
		return fmt.Errorf("%w: it took too long to find out what has been acknowledged, or to learn of it", ErrUnavailable)
	case err != nil:
		return err
	}
	n.fsm.view(func(t *locktable.Table) { f(t, max(locktable.Time(at.GetNow()), t.Now())) })
	return nil
}

// awaitReadAt finds out how far to apply the log for a read, and bears an election.
func (n *Node) awaitReadAt(ctx context.Context) (at *command.ReadIndexAt, err error) {
	err = n.bearElection(ctx, func() error {
		at, err = n.readAt(ctx)
		return err
	})
	return at, err
}

// bearElection does f again while it fails for want of a leader, for as long as proposing bears that. A refusal is final.
func (n *Node) bearElection(ctx context.Context, f func() error) error {
	for start := time.Now(); ; time.Sleep(leaderCheck) {
		err := f()
		refused := (*RefusedError)(nil)
		if err == nil || !n.clustered() || !errors.Is(err, ErrUnavailable) || errors.As(err, &refused) ||
			time.Since(start) > leaderPatience || ctx.Err() != nil || n.isStopping() {
			return err
		}
	}
}

// readAt finds out how far the log has to be applied for a read. The only voter has applied whatever it acknowledged.
func (n *Node) readAt(ctx context.Context) (*command.ReadIndexAt, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if now, _, ok := n.clock.read(); ok && !n.clustered() {
		return &command.ReadIndexAt{Now: int64(now)}, nil
	}
	if n.isLeader() {
		return n.readIndex()
	}
	if !n.clustered() {
		return nil, ErrUnavailable
	}
	res, err := n.ask(ctx, &command.PeerRequest{Op: &command.PeerRequest_ReadIndex{ReadIndex: &command.ReadIndex{}}})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return res.GetReadIndex(), nil
}

// ReadStale calls f with the table as this node has it, which may lag behind. age is how long ago this node last heard from the
// leader, at most; index is the newest applied entry.
func (n *Node) ReadStale(f func(t *locktable.Table, index uint64, age time.Duration)) {
	var age time.Duration
	if !n.isLeader() {
		age = time.Since(n.raft.LastContact())
	}
	n.fsm.view(func(t *locktable.Table) { f(t, n.fsm.applied.Load(), age) })
}

// Status tells how the node is.
type Status struct {
	Ready    bool
	Reason   string // why it is not ready
	Volatile bool
	DiskFull bool
	// How long the oldest write to disk has been running; 0 if none is.
	DiskStall time.Duration
	// The newest applied log entry.
	AppliedIndex uint64
	// Commands that wait for the log.
	Pending   int
	ClusterID string
	NodeID    string
	// The version up to which commands are used.
	Level uint32
}

// A disk that has not answered for so long makes the node unready, long before the watchdog ends it.
const stallUnready = 2 * time.Second

// Status returns the present state. It does not wait for anything.
func (n *Node) Status() Status {
	s := Status{
		Volatile: n.volatile(), DiskFull: n.store.Full(), DiskStall: n.store.Stalled(), AppliedIndex: n.raft.AppliedIndex(),
		Pending: n.queue.len(), ClusterID: n.store.ClusterID(), NodeID: n.store.NodeID(), Level: n.fsm.level.Load(),
	}
	leads := n.isLeader() || n.leaderAddr() != "" && n.clustered()
	select {
	case <-n.stopping:
		s.Reason = ErrStopping.Error()
	default:
		switch {
		case !leads:
			s.Reason = ErrUnavailable.Error()
		case s.DiskStall > stallUnready:
			s.Reason = "the disk does not answer"
		}
	}
	s.Ready = s.Reason == ""
	return s
}
