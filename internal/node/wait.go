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
	// How long it is tried to take back what could not be delivered.
	abandonPatience = time.Minute
)

// Acquire proposes a and, when it gets a place in the queue, waits until the place turns into a grant or is lost. The
// outcome's code is Granted, Held (also when the wait ran out; then Waited says how long it was), Cancelled (also when
// the key came again over another connection, which has the place now), or another refusal. When ctx ends first, the
// error wraps ctx.Err(), and the place, or the grant that came too late, is given back, unless s says otherwise. Acquire sets
// a.Attachment, and the node may read a until the outcome is known.
func (n *Node) Acquire(ctx context.Context, a *command.Acquire, s Slice) (locktable.Outcome, error) {
	a.Attachment = n.newAttachment()
	return n.wait(ctx, command.FromAcquire(a), a, s)
}

// ClaimTask proposes c and, when it gets a place, waits until the task is over or can be claimed, or the place is lost. The
// outcome's code is Granted, NotClaimable (also when the wait ran out), Cancelled, or another refusal. Everything else is as for
// Acquire.
func (n *Node) ClaimTask(ctx context.Context, c *command.ClaimTask, s Slice) (locktable.Outcome, error) {
	c.Attachment = n.newAttachment()
	return n.wait(ctx, command.FromClaimTask(c), c, s)
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
func (n *Node) wait(ctx context.Context, c *command.Command, a queueing, s Slice) (locktable.Outcome, error) {
	if a.GetWait() == 0 {
		return n.try(ctx, c, a, s)
	}
	key, ok := locktable.ParseKey(a.GetKey())
	if !ok {
		return n.try(ctx, c, a, s) // and be refused as every other malformed key
	}
	select {
	case <-n.stopping:
		return locktable.Outcome{}, ErrStopping
	default:
	}
	p := &parked{waiter: newWaiter(key, a.GetAttachment(), c.GetClaimTask().GetName()), a: a, slice: s, asked: time.Now()}
	p.kept, p.polled = p.asked, n.needsPolls(p.stay())
	n.waiters.park(p.waiter)
	defer n.waiters.leave(p.waiter)
	var err error
	p.placed, err = n.try(ctx, c, a, s)
	if err != nil || p.placed.Code != locktable.Waiting {
		return p.placed, err
	}
	n.waiters.queued(p.waiter, p.placed.Now, n.fsm.view)
	o, err := n.awaitEnd(ctx, p)
	if s.For > 0 && (err != nil || o.Code == locktable.Waiting) {
		n.AbandonLater(a.GetKey(), a.GetAttachment())
	}
	return o, err
}

// parked is a request that waits.
type parked struct {
	*waiter
	a      queueing
	slice  Slice
	asked  time.Time         // before it was proposed
	placed locktable.Outcome // Waiting
	// By which it was told that its place is lost, though another request with the key may have it; nil: not yet.
	lost *locktable.Outcome
}

// awaitEnd waits for the end of the wait of p, or of its slice. A node to which the log does not come cannot learn of it, and sends the
// client away to one that can; its place stays for the grace, so that it finds it there.
func (n *Node) awaitEnd(ctx context.Context, p *parked) (locktable.Outcome, error) {
	check := time.NewTicker(contactCheck)
	defer check.Stop()
	overdue, stop := n.overdue(time.Duration(p.a.GetWait()), p.asked)
	defer stop()
	slice := p.startSlice()
	defer slice.stop()
	for {
		select {
		case o := <-p.ended:
			if !n.isSuperseded(p, &o) {
				return o, nil
			}
			slice.hasten()
		case <-slice.over:
			return n.endSlice(p), nil
		case <-n.stopping:
			return locktable.Outcome{}, ErrStopping
		case <-ctx.Done():
			if !p.slice.Keep {
				n.Abandon(p.a.GetKey(), p.a.GetAttachment())
			}
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

func (n *Node) newAttachment() uint64 {
	for {
		if a := n.attachments.Add(1); a != 0 {
			return a
		}
	}
}

func (n *Node) needsPolls(wait time.Duration) bool { return needsPolls(wait, n.grace()) }

// grace is how long a place outlives its last request or poll.
func (n *Node) grace() (grace time.Duration) {
	n.fsm.view(func(t *locktable.Table) { grace = time.Duration(t.Settings().GetWaiterGrace()) })
	return grace
}

// try proposes c. Whatever comes of it after the caller was told that it is unknown is taken back: the Abandon follows
// it in the log, and does nothing if the client has come back with its key before. A client that has announced to come back with
// its key gets the time for that.
func (n *Node) try(ctx context.Context, c *command.Command, a queueing, s Slice) (locktable.Outcome, error) {
	o, err := n.Propose(ctx, c)
	switch {
	case !errors.Is(err, ErrUnknown):
	case s.Keep:
		n.AbandonLater(a.GetKey(), a.GetAttachment())
	default:
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

// keepPlaces polls for the parked clients, so that their places outlive the grace and nothing else does, and no grant does that is not
// fetched.
func (n *Node) keepPlaces() {
	for {
		grace := n.grace()
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
		n.abandonUnfetched()
	}
}

func (n *Node) pollPlaces(ctx context.Context) {
	for _, c := range n.waiters.polls() {
		asked := time.Now()
		if _, err := n.Propose(ctx, c); err != nil {
			n.config.Logger.Warn("places in queues were not polled", "error", err)
			return
		}
		n.waiters.keptSince(c.GetPoll().GetKeys(), asked)
	}
}
