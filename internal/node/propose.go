package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

const (
	// How often a parked client's node looks whether it still hears from a leader.
	contactCheck = time.Second
	// A wait in cluster time may last so much longer on this node's clock: a fiftieth, twice what clocks may differ.
	clockAllowance = 50
	// How long a read may take: an election, and a bit.
	readPatience = leaderPatience + time.Second
)

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
func (n *Node) enqueue(c *command.Command) (*proposal, error) {
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

// Acquire proposes a and, when it gets a place in the queue, waits until the place turns into a grant or is lost. The
// outcome's code is Granted, Held (also when the wait ran out; then Waited says how long it was), Cancelled (also when
// the key came again over another connection, which has the place now), or another refusal. When ctx ends first, the
// error wraps ctx.Err(), and the place, or the grant that came too late, is given back. Acquire sets a.Attachment, and
// the node may read a until the outcome is known.
func (n *Node) Acquire(ctx context.Context, a *command.Acquire) (locktable.Outcome, error) {
	a.Attachment = n.newAttachment()
	return n.wait(ctx, command.FromAcquire(a), a)
}

// ClaimTask proposes c and, when it gets a place, waits until the task is over or can be claimed, or the place is lost. The
// outcome's code is Granted, NotClaimable (also when the wait ran out), Cancelled, or another refusal. Everything else is as for
// Acquire.
func (n *Node) ClaimTask(ctx context.Context, c *command.ClaimTask) (locktable.Outcome, error) {
	c.Attachment = n.newAttachment()
	return n.wait(ctx, command.FromClaimTask(c), c)
}

// queueing is a command that may get a place in a queue.
type queueing interface {
	GetKey() string
	GetWait() int64
	GetAttachment() uint64
}

// asQueueing returns what c says of waiting, or nil if it can get no place.
func asQueueing(c *command.Command) queueing {
	switch op := c.GetOp().(type) {
	case *command.Command_Acquire:
		return op.Acquire
	case *command.Command_ClaimTask:
		return op.ClaimTask
	}
	return nil
}

// wait proposes c, of which a is the content, and waits if it gets a place.
func (n *Node) wait(ctx context.Context, c *command.Command, a queueing) (locktable.Outcome, error) {
	if a.GetWait() == 0 {
		return n.try(ctx, c, a)
	}
	key, ok := locktable.ParseKey(a.GetKey())
	if !ok {
		return n.try(ctx, c, a) // and be refused as every other malformed key
	}
	select {
	case <-n.stopping:
		return locktable.Outcome{}, ErrStopping
	default:
	}
	asked := time.Now()
	w := n.waiters.park(key, a.GetAttachment(), c.GetClaimTask().GetName(), n.needsPolls(a.GetWait()))
	defer n.waiters.leave(w)
	o, err := n.try(ctx, c, a)
	if err != nil || o.Code != locktable.Waiting {
		return o, err
	}
	n.waiters.queued(w, o.Now, n.fsm.view)
	return n.awaitEnd(ctx, w, a, asked)
}

// awaitEnd waits for the end of the wait of w, which was asked for at the time asked. A node to which the log does not come cannot
// learn of it, and sends the client away to one that can; its place stays for the grace, so that it finds it there.
func (n *Node) awaitEnd(ctx context.Context, w *waiter, a queueing, asked time.Time) (locktable.Outcome, error) {
	check := time.NewTicker(contactCheck)
	defer check.Stop()
	overdue, stop := n.overdue(time.Duration(a.GetWait()), asked)
	defer stop()
	for {
		select {
		case o := <-w.ended:
			return o, nil
		case <-n.stopping:
			return locktable.Outcome{}, ErrStopping
		case <-ctx.Done():
			n.Abandon(a.GetKey(), a.GetAttachment())
			return locktable.Outcome{}, ctx.Err()
		case <-overdue:
			return locktable.Outcome{}, errCutOff
		case <-check.C:
			if n.isCutOff() {
				return locktable.Outcome{}, errCutOff
			}
		}
	}
}

// errCutOff is told to a client that waits: its place may be there.
var errCutOff = fmt.Errorf("%w: this node has not heard what became of the wait", ErrUnknown)

// overdue returns what is ready when a wait must have ended: cluster time may go slower than this clock, and stands still as long as
// nobody leads, so that the end of a wait could come late again and again. It is never ready for a wait without end.
func (n *Node) overdue(wait time.Duration, asked time.Time) (<-chan time.Time, func() bool) {
	if wait < 0 {
		return nil, func() bool { return false }
	}
	t := time.NewTimer(wait + wait/clockAllowance + leaderPatience - time.Since(asked))
	return t.C, t.Stop
}

// isCutOff tells whether nothing was applied for longer than an election takes. While somebody waits, a leader writes the clock every
// second; so neither a leader without a majority nor elections upon elections are taken for somebody who leads.
func (n *Node) isCutOff() bool {
	return n.clustered() && n.fsm.sinceApplied() > leaderPatience
}

// How long it is tried to take back what could not be delivered.
const abandonPatience = time.Minute

func (n *Node) newAttachment() uint64 {
	for {
		if a := n.attachments.Add(1); a != 0 {
			return a
		}
	}
}

func (n *Node) needsPolls(wait int64) bool {
	var grace time.Duration
	n.fsm.view(func(t *locktable.Table) { grace = time.Duration(t.Settings().GetWaiterGrace()) })
	return needsPolls(wait, grace)
}

// try proposes c. Whatever comes of it after the caller was told that it is unknown is taken back: the Abandon follows
// it in the log, and does nothing if the client has come back with its key before.
func (n *Node) try(ctx context.Context, c *command.Command, a queueing) (locktable.Outcome, error) {
	o, err := n.Propose(ctx, c)
	if errors.Is(err, ErrUnknown) {
		n.Abandon(a.GetKey(), a.GetAttachment())
	}
	return o, err
}

// Abandon takes back an acquire whose answer could not be delivered, unless its client has come back in the meantime.
// It does not wait. When no leader takes it for some time, the hold or place ends by its deadline.
func (n *Node) Abandon(key string, attachment uint64) {
	p := &proposal{
		cmd:  command.FromAbandon(&command.Abandon{Key: key, Attachment: attachment}),
		done: make(chan struct{}, 1), until: time.Now().Add(abandonPatience), queue: n.queue,
	}
	if err := n.queue.put(p, 2*maxPending); err != nil {
		n.config.Logger.Warn("an undelivered grant or an abandoned place stays until its deadline", "error", err)
	}
}

// keepPlaces polls for the parked clients, so that their places outlive the grace and nothing else does.
func (n *Node) keepPlaces() {
	for {
		var grace time.Duration
		n.fsm.view(func(t *locktable.Table) { grace = time.Duration(t.Settings().GetWaiterGrace()) })
		timer := time.NewTimer(grace / 3)
		select {
		case <-timer.C:
		case <-n.stop:
			timer.Stop()
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), grace/3)
		n.pollPlaces(ctx)
		cancel()
	}
}

func (n *Node) pollPlaces(ctx context.Context) {
	for _, c := range n.waiters.polls() {
		if _, err := n.Propose(ctx, c); err != nil {
			n.config.Logger.Warn("places in queues were not polled", "error", err)
			return
		}
	}
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
