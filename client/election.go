package client

import (
	"context"
	"iter"
	"time"
)

// DefaultTermTTL is how long a leader that fell silent stays leader, unless [TTL] says otherwise.
const DefaultTermTTL = 10 * time.Second

// Leadership is an election that was won: a lease on the lock of its name. It is lost like any lease; stop working as the leader then.
type Leadership struct{ *Lease }

// Leader is who leads, for others.
type Leader struct {
	Owner string
	Value string // what it said of itself when it campaigned
	Token uint64 // of its term; greater than that of every term before
	Since time.Time
}

// Campaign waits until it is elected. The value tells others what they want to know of a leader, such as its address. An election
// is a lock: the queue is served in order, and the options, errors and guarantees are those of [Client.Lock].
func (c *Client) Campaign(ctx context.Context, name, value string, options ...LockOption) (*Leadership, error) {
	o := append([]LockOption{TTL(DefaultTermTTL)}, options...)
	l, err := c.Lock(ctx, name, append(o, Metadata(value))...)
	if err != nil {
		return nil, err
	}
	return &Leadership{l}, nil
}

// Resign ends the leadership, like [Lease.Unlock]; the next one leads at once.
func (l *Leadership) Resign(ctx context.Context) error { return l.Unlock(ctx) }

// Leader tells who leads. If nobody does, the error is [ErrNoLeader].
func (c *Client) Leader(ctx context.Context, name string) (*Leader, error) {
	l, err := c.leader(ctx, name)
	switch {
	case err != nil:
		return nil, err
	case l == nil:
		return nil, wrap("election "+quoteNames([]string{name}), ErrNoLeader)
	}
	return l, nil
}

// leader is nil if nobody leads.
func (c *Client) leader(ctx context.Context, name string) (*Leader, error) {
	info, err := c.Get(ctx, name)
	if err != nil || len(info.Holders) == 0 {
		return nil, err
	}
	h := &info.Holders[0]
	return &Leader{Owner: h.Owner, Value: h.Metadata, Token: h.Token, Since: h.Since}, nil
}

// Observe tells who leads now, and then each change, until ctx ends; nil stands for nobody. Terms that begin and end in quick succession
// may be passed over. It ends after the first error, which is that of [Client.Watch] or [Client.Get].
func (c *Client) Observe(ctx context.Context, name string) iter.Seq2[*Leader, error] {
	return func(yield func(*Leader, error) bool) {
		var last *Leader
		first := true
		// The stream stands before the look, so that nothing is missed in between.
		for event, err := range c.Watch(ctx, OfLock(name)) {
			if err != nil {
				yield(nil, err)
				return
			}
			switch event.Kind {
			case "queued", "cancelled", "timed_out", "asked":
				continue // nobody begins or ends to lead by that
			}
			now, err := c.leader(ctx, name)
			if err != nil {
				yield(nil, err)
				return
			}
			if !first && sameTerm(last, now) {
				continue
			}
			first, last = false, now
			if !yield(now, nil) {
				return
			}
		}
	}
}

func sameTerm(a, b *Leader) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Token == b.Token
}
