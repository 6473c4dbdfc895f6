package client

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
)

// Session is one lifetime for many locks: they are renewed as one, and lost as one. Within a session, a lock that it holds can be
// acquired again in the same mode; it is free when each of the leases is unlocked. A session that would wait for itself is told so
// ([ErrDeadlock]). Its methods are safe for use by many goroutines.
type Session struct {
	client  *Client
	id      string
	keeper  *keeper
	brought bool          // the caller brought the id
	numbers atomic.Uint64 // of the last request inside the session

	mu     sync.Mutex // guards leases
	leases map[*Lease]struct{}

	end     sync.Once // starts ending it
	ended   chan struct{}
	outcome error // of ending it; may be read when ended is closed
}

// Open opens a session and keeps it alive. Of the options, [TTL], [Owner] and [Metadata] count, and [Key] for the id.
func (c *Client) Open(ctx context.Context, options ...SessionOption) (*Session, error) {
	var o sessionOptions
	for _, f := range options {
		f.applySession(&o)
	}
	s, err := c.openSession(ctx, &o)
	return s, wrap("open a session", err)
}

type openBody struct {
	ID       string  `json:"id"`
	TTL      seconds `json:"ttl,omitempty"`
	Owner    string  `json:"owner,omitempty"`
	Metadata string  `json:"metadata,omitempty"`
}

func (c *Client) openSession(ctx context.Context, o *sessionOptions) (*Session, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	body := openBody{ID: o.key, TTL: inSeconds(o.ttl), Owner: o.owner, Metadata: o.metadata}
	if body.ID == "" {
		body.ID = NewKey()
	}
	if body.Owner == "" {
		body.Owner = c.config.owner
	}
	user := ctx
	ctx, end, err := c.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	s := &Session{client: c, id: body.ID, brought: o.key != "", leases: map[*Lease]struct{}{}, ended: make(chan struct{})}
	s.keeper = c.newKeeper(user, "session")
	s.keeper.renew = s.renew
	err = s.open(ctx, body)
	if err != nil && o.key == "" {
		c.abandon(s.endRequest())
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Session) open(ctx context.Context, body openBody) error {
	var g granted
	r := &request{method: http.MethodPost, path: "/v1/sessions", body: toJSON(body), patience: s.client.config.patience}
	res := s.client.do(ctx, r, func(got *answer) error {
		g = granted{}
		return json.Unmarshal(got.body, &g)
	})
	if res.answer == nil {
		return res.fault()
	}
	s.keeper.acknowledge(res.answer.sent, &g)
	return s.keeper.begin(ctx)
}

// path is where the session is; it has the id in it, which is a secret.
func (s *Session) path() string { return "/v1/sessions/" + s.id }

func (s *Session) endRequest() *request {
	return &request{method: http.MethodDelete, path: s.path()}
}

// renew renews the session, and looks whether what it holds is still there.
func (s *Session) renew(ctx context.Context, until instant, note func(instant, *granted)) result {
	res := s.client.renewal(ctx, s.path()+"/renew", struct{}{}, until, note)
	if res.answer != nil {
		s.review(ctx)
	}
	return res
}

// number gives r the next number of the session, so that its repetition is known as such however long the session lasts. In a session
// whose id the caller brought, numbers may have been given before; there the keys have to do.
func (s *Session) number(r *request) {
	if r.header == nil {
		r.header = map[string]string{}
	}
	if !s.brought {
		r.header["Idempotency-Key"] = strconv.FormatUint(s.numbers.Add(1), 10)
	}
}

// skip passes over numbers that the session has seen before it was opened here: it was opened with its id again. Of those the server
// remembers the last ones only; the steps grow, so that also many are soon passed over.
func (s *Session) skip() { s.numbers.Add(s.numbers.Load()) }

// take makes a lease live by the session.
func (s *Session) take(l *Lease) error {
	if !l.keeper.startUnder(s.keeper) {
		return s.keeper.believed()
	}
	s.mu.Lock()
	s.leases[l] = struct{}{}
	s.mu.Unlock()
	context.AfterFunc(l.keeper.ctx, func() {
		s.mu.Lock()
		delete(s.leases, l)
		s.mu.Unlock()
	})
	return nil
}

// review finds out which leases of the session were broken by an operator, which the session itself does not notice, and which are
// asked for.
func (s *Session) review(ctx context.Context) {
	s.mu.Lock()
	held := make([]*Lease, 0, len(s.leases))
	for l := range s.leases {
		held = append(held, l)
	}
	s.mu.Unlock()
	if len(held) == 0 {
		return
	}
	var now struct {
		KeyCount int `json:"key_count"`
		Locks    []struct {
			Held  bool      `json:"held"`
			Token uint64    `json:"token"`
			Asked *askedFor `json:"asked"`
		} `json:"locks"`
	}
	r := &request{method: http.MethodGet, path: s.path(), patience: s.keeper.remaining() / 2}
	res := s.client.do(ctx, r, func(a *answer) error { return json.Unmarshal(a.body, &now) })
	if res.answer == nil {
		return
	}
	asked := map[uint64]*askedFor{}
	for _, k := range now.Locks {
		if k.Held {
			asked[k.Token] = k.Asked
		}
	}
	for _, l := range held {
		ask, there := asked[l.token]
		switch {
		case there:
			l.keeper.tell(ask)
		case now.KeyCount <= len(now.Locks): // else it may be one that is not shown
			s.probe(ctx, l)
		}
	}
}

// probe asks about one lease by its key. Only that answer counts: between the look and now the lease may have been unlocked.
func (s *Session) probe(ctx context.Context, l *Lease) {
	res := l.renew(ctx, s.client.clock.now().add(s.keeper.remaining()), func(instant, *granted) {})
	if res.problem != nil && res.err == nil && res.problem.Is(ErrLost) {
		l.keeper.finish(both(ErrLost, res.problem))
	}
}

// ID is the secret that the session is known by.
func (s *Session) ID() string { return s.id }

// Context ends when the session is lost (the cause is [ErrLost]) or was ended.
func (s *Session) Context() context.Context { return s.keeper.ctx }

// Lost is closed when nothing of the session must be relied on any more, although it was not ended.
func (s *Session) Lost() <-chan struct{} { return s.keeper.lost }

// Err is nil as long as the session can be relied on.
func (s *Session) Err() error {
	if err := s.keeper.believed(); err != nil {
		return wrap("session", err)
	}
	return nil
}

// String does not tell the id.
func (s *Session) String() string { return "session" }

// GoString is String.
func (s *Session) GoString() string { return s.String() }

// Lock is [Client.Lock] for the session.
func (s *Session) Lock(ctx context.Context, name string, options ...LockOption) (*Lease, error) {
	return s.client.acquire(ctx, []string{name}, false, lockOptions{wait: -1, session: s}, options)
}

// TryLock is [Client.TryLock] for the session.
func (s *Session) TryLock(ctx context.Context, name string, options ...LockOption) (*Lease, error) {
	return s.client.acquire(ctx, []string{name}, false, lockOptions{session: s}, options)
}

// LockAll is [Client.LockAll] for the session. Sets cannot be acquired again by a session that holds one of the locks.
func (s *Session) LockAll(ctx context.Context, names []string, options ...LockOption) (*Lease, error) {
	return s.client.acquire(ctx, names, true, lockOptions{wait: -1, session: s}, options)
}

// End ends the session: all its locks are released, and all its places given up, in one moment. Like [Lease.Unlock], it works also if
// ctx has ended.
func (s *Session) End(ctx context.Context) error {
	s.end.Do(s.giveBack)
	select {
	case <-s.ended:
		return wrap("end the session", s.outcome)
	default:
	}
	select {
	case <-s.ended:
		return wrap("end the session", s.outcome)
	case <-ctx.Done():
		return wrap("end the session", both(ErrUnknown, endOf(ctx)))
	}
}

func (s *Session) giveBack() {
	before := s.keeper.believed()
	if before == nil && !s.keeper.finish(ErrReleased) {
		before = s.keeper.believed()
	}
	started := s.client.later(func(ctx context.Context) {
		defer close(s.ended)
		<-s.keeper.done
		s.outcome = givenBack(before, s.client.free(ctx, s.endRequest()))
	})
	if !started {
		s.outcome = ErrClosed
		close(s.ended)
	}
}

// givenBack is the outcome of giving something back: before is why it was not held any more before, if so.
func givenBack(before error, res result) error {
	switch {
	case before != nil:
		return before
	case res.answer != nil:
		return nil
	case res.err == nil && res.unsure && errors.Is(res.problem, ErrLost):
		return nil // gone by an attempt whose answer was lost
	case res.err != nil && !errors.Is(res.err, ErrClosed):
		return both(ErrUnknown, res.err)
	}
	return res.fault()
}
