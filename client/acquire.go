package client

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"
)

// Lock acquires a lock, and waits for it as long as it takes, until ctx ends or the time of [Wait] has passed. The place in the
// queue is kept over lost connections and failovers.
//
// If it fails with an error that is [ErrHeld] or [ErrDeadlock] nothing is held, nor if it is [ErrUnavailable]. When ctx ends, or
// the error is [ErrUnknown], what the servers may have granted meanwhile is given back in the background.
func (c *Client) Lock(ctx context.Context, name string, options ...LockOption) (*Lease, error) {
	return c.acquire(ctx, []string{name}, false, lockOptions{wait: -1}, options)
}

// TryLock acquires a lock if it is free, and does not wait. If others hold it, or wait for it, the error is [ErrHeld].
func (c *Client) TryLock(ctx context.Context, name string, options ...LockOption) (*Lease, error) {
	return c.acquire(ctx, []string{name}, false, lockOptions{}, options)
}

// LockAll acquires all of the locks or none, as one lease with one token, and waits for them like Lock. While it waits it holds none of
// them, so that sets never deadlock among each other, in whatever order they name their locks.
func (c *Client) LockAll(ctx context.Context, names []string, options ...LockOption) (*Lease, error) {
	return c.acquire(ctx, names, true, lockOptions{wait: -1}, options)
}

// TryLockAll acquires all of the locks if all are free.
func (c *Client) TryLockAll(ctx context.Context, names []string, options ...LockOption) (*Lease, error) {
	return c.acquire(ctx, names, true, lockOptions{}, options)
}

func (c *Client) acquire(ctx context.Context, names []string, set bool, o lockOptions, options []LockOption) (*Lease, error) {
	for _, f := range options {
		f.applyLock(&o)
	}
	names = append([]string(nil), names...)
	l, err := c.acquireWith(ctx, names, set, &o)
	return l, wrap("lock "+quoteNames(names), err)
}

func (c *Client) acquireWith(ctx context.Context, names []string, set bool, o *lockOptions) (*Lease, error) {
	if err := o.check(names); err != nil {
		return nil, err
	}
	user := ctx
	ctx, end, err := c.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	a := c.newAcquiring(names, set, o)
	if o.session != nil {
		if o.session.client != c {
			return nil, refuse("the session is that of another client")
		}
		if err := o.session.keeper.believed(); err != nil {
			return nil, err
		}
	}
	for anew := 0; ; {
		l, again, err := a.ask(ctx, user)
		switch {
		case again:
		case err != nil && anew < maxAnew && a.mayBeginAnew(err):
			// The grant came, and its lifetime passed, before this program heard of it.
			anew++
			a.body.Key, a.late, a.left = NewKey(), false, false
		default:
			return l, err
		}
	}
}

// maxAnew is how often an acquire begins again with a new key.
const maxAnew = 3

// mayBeginAnew tells whether an acquire that lost what it was granted goes on with a new key.
func (a *acquiring) mayBeginAnew(err error) bool {
	if a.o.key != "" || a.o.session != nil || a.waits.left() == 0 {
		return false
	}
	var p *Problem
	return a.late || errors.As(err, &p) && p.Code == "key_spent"
}

// acquiring is an acquire under way: a chain of requests with one key.
type acquiring struct {
	client *Client
	o      *lockOptions
	names  []string
	path   string
	body   acquireBody
	waits  waiting
	late   bool // it was granted, and could not be renewed before it was too late to hand it over
	left   bool // a request has left, or may have left, something behind under the key
}

func (c *Client) newAcquiring(names []string, set bool, o *lockOptions) *acquiring {
	a := &acquiring{client: c, o: o, names: names, path: lockPath(names[0]), waits: waiting{clock: c.clock, ttl: o.ttl, wait: o.wait, began: c.clock.now()}}
	a.body = acquireBody{
		TTL: inSeconds(o.ttl), Key: o.key, Slots: o.slots, Owner: o.owner, Metadata: o.metadata, LockDelay: inSeconds(o.lockDelay),
	}
	if a.body.Key == "" {
		a.body.Key = NewKey()
	}
	if a.body.Owner == "" {
		a.body.Owner = c.config.owner
	}
	if o.shared {
		a.body.Mode = modeShared
	}
	switch {
	case o.session != nil:
		a.body.Session, a.waits.ttl = o.session.id, o.session.keeper.ttl
	case o.ttl == 0:
		a.waits.ttl = DefaultTTL // it is the server's, and could be less
	}
	if set {
		a.path = "/v1/locks"
		a.body.Names = o.wanted(names)
		a.body.Mode, a.body.Slots = "", 0
	}
	return a
}

// wanted are the names of a set with their kinds.
func (o *lockOptions) wanted(names []string) []wantedName {
	wanted := make([]wantedName, len(names))
	for i, name := range names {
		w, ok := o.kinds[name]
		if !ok {
			w = wantedName{Slots: o.slots}
			if o.shared {
				w.Mode = modeShared
			}
		}
		w.Name = name
		wanted[i] = w
	}
	return wanted
}

// ask makes one request: the first, or one that keeps the place in the queue.
func (a *acquiring) ask(ctx, user context.Context) (l *Lease, again bool, err error) {
	r := a.request()
	var g granted
	res := a.client.do(ctx, r, func(got *answer) error {
		g = granted{}
		if err := json.Unmarshal(got.body, &g); err != nil {
			return err
		}
		if g.Key != a.body.Key {
			return errors.New("the answer is not for this request")
		}
		return nil
	})
	switch {
	case res.answer != nil && g.Waiting:
		a.left = true
		a.waits.n++
		a.tell(&g)
		return nil, true, nil
	case res.answer != nil:
		l, err = a.granted(ctx, user, res.answer.sent, &g)
		return l, false, err
	case a.o.session != nil && res.usedUp():
		a.o.session.skip()
		a.left = true // the key tells what came of it
		return nil, true, nil
	}
	a.left = a.left && res.err != nil || res.unsure
	a.giveUp()
	return nil, false, res.fault()
}

// request asks for what is left of the wait, and to be told after a slice of it that the place is there.
func (a *acquiring) request() *request {
	body := a.body
	r := &request{method: http.MethodPost, path: a.path, patience: a.client.config.patience}
	left, slice := a.waits.next()
	body.Wait, body.Poll, r.answerIn = inSeconds(left), inSeconds(slice), answerIn(left, slice)
	if a.o.session != nil {
		a.o.session.number(r)
	}
	r.body = toJSON(body)
	return r
}

func (a *acquiring) tell(g *granted) {
	if a.o.onPlace != nil {
		a.o.onPlace(Place{Position: g.Position, QueueLength: g.QueueLength, ExpectedWait: g.ExpectedWait.duration()})
	}
}

// giveUp gives back in the background what the acquire may have left: a place, or a hold that nobody knows of.
func (a *acquiring) giveUp() {
	if a.left && a.o.key == "" {
		a.client.abandon(freeRequest(a.names[0], a.body.Key))
	}
}

// abandon releases what a request may have left behind that was given up. When the server finds nothing, it is asked once more: the
// request may still have been on its way.
func (c *Client) abandon(r *request) {
	c.later(func(ctx context.Context) {
		res := c.free(ctx, r)
		if res.err == nil && res.problem != nil && res.problem.Code == "not_held" && sleep(ctx, abandonPause) {
			c.free(ctx, r)
		}
	})
}

const abandonPause = time.Second

// sleep is false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// granted makes a lease of a grant.
func (a *acquiring) granted(ctx, user context.Context, sent instant, g *granted) (*Lease, error) {
	a.left = true
	l := &Lease{
		client: a.client, names: a.names, key: a.body.Key, token: g.Token, waited: g.Waited.duration(),
		session: a.o.session, freed: make(chan struct{}),
	}
	l.keeper = a.client.newKeeper(user, l.String())
	l.keeper.renew = l.renew
	var err error
	if l.session != nil {
		err = l.session.take(l)
	} else {
		l.keeper.acknowledge(sent, g)
		err = l.keeper.begin(ctx)
	}
	if err != nil {
		a.late = ctx.Err() == nil && !errors.Is(err, ErrRefused)
		a.giveUp()
		return nil, err
	}
	return l, nil
}

// renew renews the hold.
func (l *Lease) renew(ctx context.Context, until instant, note func(instant, *granted)) result {
	return l.client.renewal(ctx, lockPath(l.names[0])+"/renew", keyBody{Key: l.key}, until, note)
}

type keyBody struct {
	Key string `json:"key"`
}

// renewal asks for a renewal, and has an acknowledgement noted.
func (c *Client) renewal(ctx context.Context, path string, body any, until instant, note func(instant, *granted)) result {
	r := &request{
		method: http.MethodPost, path: path, body: toJSON(body), until: until, patience: max(until.sub(c.clock.now()), 0),
	}
	var g granted
	res := c.do(ctx, r, func(got *answer) error {
		g = granted{}
		if err := json.Unmarshal(got.body, &g); err != nil {
			return err
		}
		if g.ExpiresIn <= 0 {
			return errors.New("the answer promises nothing")
		}
		return nil
	})
	if res.answer != nil {
		note(res.answer.sent, &g)
	}
	return res
}

func toJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // all of them are structs and maps of texts and finite numbers
	}
	return b
}
