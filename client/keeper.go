package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// keeper keeps one thing that expires alive: a hold, a session, or a claim. It knows until when that can be relied on, and
// ends the belief in it before the server can.
type keeper struct {
	client *Client
	what   string // for errors and the log
	ttl    time.Duration
	margin time.Duration
	// renew asks for a renewal, for as long as until has not passed, and has an acknowledgement noted.
	renew func(ctx context.Context, until instant, note func(instant, *granted)) result
	// parent is the keeper of the session that this one lives by; nil if it has a lifetime of its own.
	parent *keeper

	ctx    context.Context //nolint:containedctx // what it is there for
	cancel context.CancelCauseFunc
	lost   chan struct{}
	woken  chan struct{} // capacity 1: look at the clock
	over   chan struct{} // closed with the end of the belief, for the loop
	done   chan struct{} // closed when the loop has ended
	asked  chan Ask      // capacity 1: the newest

	mu      sync.Mutex // guards what follows
	until   instant    // may be believed in until then
	renewed instant    // when the last acknowledged request was sent
	err     error      // why it is not believed in any more; nil while it is
	trouble error      // why it could not be renewed lately
	ask     Ask        // the last that was told
	// confirmed: a renewal has shown the server that its grant was heard of.
	confirmed bool
	timer     *time.Timer
	// children live by this one, and end with it.
	children map[*keeper]struct{}
}

// driftPart is what is taken off each lifetime: one part in so many, for clocks of server and client that do not go at the same rate.
const driftPart = 100

// newKeeper makes a keeper that does not believe in anything yet. Values of ctx are kept, its end is not.
func (c *Client) newKeeper(ctx context.Context, what string) *keeper {
	k := &keeper{
		client: c, what: what, lost: make(chan struct{}), woken: make(chan struct{}, 1),
		over: make(chan struct{}), done: make(chan struct{}), asked: make(chan Ask, 1),
	}
	k.ctx, k.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	return k
}

// marginOf is the margin for a lifetime.
func (c *Client) marginOf(ttl time.Duration) time.Duration {
	if c.config.margin >= 0 {
		return c.config.margin
	}
	return min(ttl/20, 500*time.Millisecond)
}

// bound is until when an answer can be relied on that promised so much to a request sent then.
func (k *keeper) bound(sent instant, g *granted) instant {
	left := g.ExpiresIn.duration()
	return sent.add(left - left/driftPart - k.margin)
}

// acknowledge notes an answer of the server, before the keeper is started.
func (k *keeper) acknowledge(sent instant, g *granted) {
	k.ttl = g.TTL.duration()
	k.margin = k.client.marginOf(k.ttl)
	k.until, k.renewed = k.bound(sent, g), sent
}

// start begins to renew. It is false if there is nothing (any more) to be believed in.
func (k *keeper) start() bool {
	left := k.until.sub(k.client.clock.now())
	if left <= 0 || !k.client.hold(k) {
		return false
	}
	k.mu.Lock()
	k.timer = time.AfterFunc(left, k.expire)
	k.mu.Unlock()
	k.client.running.goes(k.run)
	return true
}

// startUnder makes k live by parent, which renews for both. It is false if parent is over.
func (k *keeper) startUnder(parent *keeper) bool {
	k.parent = parent
	close(k.done) // there is no loop
	parent.mu.Lock()
	defer parent.mu.Unlock()
	if parent.err != nil {
		return false
	}
	if parent.children == nil {
		parent.children = map[*keeper]struct{}{}
	}
	parent.children[k] = struct{}{}
	return true
}

// expire ends the belief when its time is over.
func (k *keeper) expire() {
	k.mu.Lock()
	left := k.until.sub(k.client.clock.now())
	if k.err == nil && left > 0 {
		k.timer.Reset(left)
		k.mu.Unlock()
		return
	}
	trouble := k.trouble
	k.mu.Unlock()
	k.finish(both(ErrLost, both(errNotRenewed, trouble)))
}

var errNotRenewed = errors.New("it was not renewed in time")

// believed returns nil if it can be relied on at this moment, whatever timers have run.
func (k *keeper) believed() error {
	if k.parent != nil {
		// It ends this one, too, but another goroutine may be about to do so, and not have come to it yet.
		if err := k.parent.believed(); err != nil {
			k.finish(err)
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		return k.err
	}
	k.mu.Lock()
	late := k.err == nil && k.client.clock.now() >= k.until
	k.mu.Unlock()
	if late {
		k.expire()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.err
}

// remaining is for how long it can be relied on.
func (k *keeper) remaining() time.Duration {
	if k.believed() != nil {
		return 0
	}
	if k.parent != nil {
		return k.parent.remaining()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return max(k.until.sub(k.client.clock.now()), 0)
}

// finish ends the belief, for good. The first reason counts; finish is true for it alone.
func (k *keeper) finish(why error) bool {
	k.mu.Lock()
	if k.err != nil {
		k.mu.Unlock()
		return false
	}
	k.err = why
	if k.timer != nil {
		k.timer.Stop()
	}
	children := k.children
	k.children = nil
	k.mu.Unlock()
	for child := range children {
		child.finish(why)
	}
	if k.parent != nil {
		k.parent.mu.Lock()
		delete(k.parent.children, k)
		k.parent.mu.Unlock()
	} else {
		k.client.letGo(k)
	}
	close(k.over)
	lost := !errors.Is(why, ErrReleased)
	if lost {
		close(k.lost)
	}
	k.cancel(why)
	if errors.Is(why, ErrLost) {
		k.client.log.Warn("a lease is lost", "lease", k.what, "error", why)
	}
	return true
}

// wake makes the keeper look at the clock, and renew.
func (k *keeper) wake() {
	_ = k.believed()
	select {
	case k.woken <- struct{}{}:
	default:
	}
}

// run renews until the belief ends.
func (k *keeper) run() {
	defer close(k.done)
	ctx, cancel := context.WithCancel(k.client.ctx)
	defer cancel()
	stop := context.AfterFunc(k.ctx, cancel)
	defer stop()
	timer := time.NewTimer(k.untilRenewal())
	defer timer.Stop()
	for {
		select {
		case <-k.over:
			return
		case <-timer.C:
		case <-k.woken:
		}
		k.renewOnce(ctx)
		timer.Reset(k.untilRenewal())
	}
}

// firstRenewal is when a lease is renewed for the first time at the latest. A server that is not sure that its answer arrived takes a
// grant back after 15 s, unless it hears of the key again; that must not wait for a third of a long ttl.
const firstRenewal = 10 * time.Second

// untilRenewal is how long to wait before the next renewal: a third of the ttl after the last one was sent, up to a tenth of
// that less, so that leases that were taken together are not renewed together for ever.
func (k *keeper) untilRenewal() time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	pause := k.ttl / 3
	if !k.confirmed {
		pause = min(pause, firstRenewal)
	}
	pause -= time.Duration(rand.Int64N(int64(pause)/10 + 1))
	now := k.client.clock.now()
	next := k.renewed.add(pause).sub(now)
	if k.trouble != nil {
		// The renewal failed, but not for lack of time. Before the bound passes there may be room for better luck.
		next = max(k.until.sub(now)/8, minPause)
	}
	return max(next, minPause)
}

// renewOnce renews, on whatever endpoint answers, or ends the belief.
func (k *keeper) renewOnce(ctx context.Context) {
	k.mu.Lock()
	until := k.until
	k.mu.Unlock()
	res := k.renew(ctx, until, k.extend)
	switch {
	case res.answer != nil: // noted by extend
	case res.err == nil && res.problem.Is(ErrLost):
		k.finish(both(ErrLost, res.problem))
	default:
		k.mu.Lock()
		k.trouble = res.fault()
		k.mu.Unlock()
	}
}

// extend notes an acknowledged renewal. An older answer than the newest changes nothing, and none brings back what is lost.
func (k *keeper) extend(sent instant, g *granted) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err != nil || k.client.clock.now() >= k.until {
		return
	}
	k.trouble, k.confirmed = nil, true
	k.until = max(k.until, k.bound(sent, g))
	k.renewed = max(k.renewed, sent)
	k.timer.Reset(k.until.sub(k.client.clock.now()))
	k.tellLocked(g.Asked)
}

// tell passes on what is asked of the holder, if anything.
func (k *keeper) tell(asked *askedFor) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.tellLocked(asked)
}

// tellLocked passes each request on once.
func (k *keeper) tellLocked(asked *askedFor) {
	if asked == nil {
		return
	}
	a := asked.ask()
	if a.Since.Equal(k.ask.Since) && a.Owner == k.ask.Owner && a.Reason == k.ask.Reason {
		return
	}
	k.ask = a
	select {
	case <-k.asked: // not read yet; the newest counts
	default:
	}
	k.asked <- a
}

// A new lease is handed to the caller with at least one part in freshPart of the lifetime before it; if it is less, it is renewed
// first, so often.
const (
	freshPart   = 2
	freshenings = 3
)

var errTooSlow = errors.New("the servers take too long to answer for so short a ttl")

// freshen renews what was granted until enough of its lifetime is left to hand it over: that counts from the moment that the
// request was sent, which may be long ago. Nobody has been told of the grant yet, so that what the keeper believed before
// does not matter.
func (k *keeper) freshen(ctx context.Context) error {
	for range freshenings {
		now := k.client.clock.now()
		if k.until.sub(now) >= k.ttl/freshPart {
			return nil
		}
		if res := k.renew(ctx, now.add(k.ttl), k.acknowledge); res.answer == nil {
			return res.fault()
		}
	}
	if k.until.sub(k.client.clock.now()) >= k.ttl/freshPart {
		return nil
	}
	return both(ErrUnavailable, errTooSlow)
}

// begin freshens and starts k. An error says why there is nothing to be handed over; what the server has granted is to be given
// back then.
func (k *keeper) begin(ctx context.Context) error {
	if k.margin*3 > k.ttl { // more than half has to be left for a new lease
		return refuse(fmt.Sprintf("a margin of %v leaves nothing of a ttl of %v", k.margin, k.ttl))
	}
	if err := k.freshen(ctx); err != nil {
		return err
	}
	if k.start() {
		return nil
	}
	if k.client.ending.Err() != nil {
		return ErrClosed
	}
	return both(ErrUnavailable, errTooSlow)
}
