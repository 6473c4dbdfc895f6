package ddtest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
	"github.com/doubledutch-lock/doubledutch/internal/node"
)

// A Holder is one who holds a lock, or has the claim on a task.
type Holder struct {
	// Token is the fencing token.
	Token uint64
	// Owner and Metadata are what the holder said of itself.
	Owner, Metadata string
	// Shared says that others may hold the lock at the same time.
	Shared bool
	// ExpiresIn is how long the hold lasts if it is not renewed.
	ExpiresIn time.Duration
}

// Holders returns who holds the lock now, the oldest first; nobody if it is free.
func (s *Server) Holders(name string) []Holder {
	s.t.Helper()
	var all []Holder
	s.read("look at "+name, func(t *locktable.Table, now locktable.Time) {
		all = nil
		l, _ := t.Lock(name, math.MaxInt)
		for _, h := range l.Holders {
			all = append(all, Holder{h.Token, h.Owner, h.Metadata, h.Mode == locktable.Shared, max(h.Deadline.Sub(now), 0)})
		}
	})
	return all
}

// Waiters returns how many wait for the lock.
func (s *Server) Waiters(name string) (n int) {
	s.t.Helper()
	s.read("look at "+name, func(t *locktable.Table, _ locktable.Time) {
		l, _ := t.Lock(name, 0)
		n = l.NumWaiters
	})
	return n
}

// AwaitWaiters returns when at least n wait for the lock. After 30 seconds it ends the test.
func (s *Server) AwaitWaiters(name string, n int) {
	s.t.Helper()
	s.poll(fmt.Sprintf("%d waiters of %s", n, name), func(ctx context.Context, m *node.Node) error {
		there := 0
		err := m.Read(ctx, func(t *locktable.Table, _ locktable.Time) {
			l, _ := t.Lock(name, 0)
			there = l.NumWaiters
		})
		if err == nil && there < n {
			err = fmt.Errorf("%d wait", there)
		}
		return err
	})
}

// Expire lets the leases of all present holders of the lock expire, at once, and returns when they have: their keys hold nothing
// any more, as if they had not been renewed in time, and who waited first has the lock. A holder that took the lock in a session
// loses the session, with all that is in it. Nobody is told: a holder finds out when it asks. Expire ends the test if nobody
// holds the lock.
func (s *Server) Expire(name string) {
	s.t.Helper()
	s.expire("lock "+name, lockPlace(name), func(t *locktable.Table) []uint64 {
		l, _ := t.Lock(name, math.MaxInt)
		return tokensOf(l.Holders)
	}, func(key string) *command.Command {
		return command.FromRenew(&command.Renew{Name: name, Key: key, Ttl: int64(locktable.MinTTL)})
	})
}

// ExpireTask lets the claim on the task expire, at once, as Expire does with a lock.
func (s *Server) ExpireTask(name string) {
	s.t.Helper()
	s.expire("task "+name, taskPlace(name), func(t *locktable.Table) []uint64 {
		i, _ := t.Task(name)
		if i.Status != locktable.TaskRunning {
			return nil
		}
		return []uint64{i.Token}
	}, func(key string) *command.Command {
		return command.FromRenewTask(&command.RenewTask{Name: name, Key: key, Ttl: int64(locktable.MinTTL)})
	})
}

// expire gives the holds that there are the shortest possible lifetime, until they are gone.
func (s *Server) expire(what, place string, holders func(*locktable.Table) []uint64, shorten func(key string) *command.Command) {
	s.t.Helper()
	var tokens []uint64
	s.read("expire the "+what, func(t *locktable.Table, _ locktable.Time) { tokens = holders(t) })
	if len(tokens) == 0 {
		s.t.Fatalf("ddtest: expire the %s: nobody has it", what)
	}
	newest := slices.Max(tokens)
	s.poll("expire the "+what, func(ctx context.Context, n *node.Node) error {
		for _, key := range s.book.keys(place, newest) {
			if _, err := n.Propose(ctx, shorten(key)); err != nil {
				return err
			}
		}
		time.Sleep(2 * locktable.MinTTL) // the lifetime that they have now
		if err := s.touch(ctx, n); err != nil {
			return err
		}
		var left []uint64
		err := n.Read(ctx, func(t *locktable.Table, _ locktable.Time) { left = holders(t) })
		if err == nil && slices.ContainsFunc(left, func(token uint64) bool { return token <= newest }) {
			err = errors.New("it is renewed again and again")
		}
		return err
	})
}

func tokensOf(holders []locktable.HolderInfo) (tokens []uint64) {
	for i := range holders {
		tokens = append(tokens, holders[i].Token)
	}
	return tokens
}

// Break ends all present holds of the lock by order of an operator, as `doubledutch break` does. The holders are told so when
// they ask (409 broken, with the reason).
func (s *Server) Break(name, reason string) {
	s.t.Helper()
	s.poll("break "+name, func(ctx context.Context, n *node.Node) error {
		_, err := n.Propose(ctx, command.FromBreak(&command.Break{Name: name, UpToToken: math.MaxInt64, Owner: "ddtest", Reason: reason}))
		return err
	})
}

// A Rival is another holder of a lock, made by the test.
type Rival struct {
	// Token is its fencing token.
	Token uint64

	s         *Server
	name, key string
}

// Take acquires the lock for somebody else, who holds it until it is released, for a day of cluster time at most. If the lock is
// held, Take ends the test; Expire or Break it first.
func (s *Server) Take(name string) *Rival {
	s.t.Helper()
	r := &Rival{s: s, name: name, key: newKey()}
	var out locktable.Outcome
	s.poll("take "+name, func(ctx context.Context, n *node.Node) (err error) {
		out, err = n.Acquire(ctx, &command.Acquire{
			Name: name, Key: r.key, Ttl: int64(24 * time.Hour), Owner: "rival", Metadata: "taken by ddtest",
		}, node.Slice{})
		return err
	})
	if out.Code != locktable.Granted {
		s.t.Fatalf("ddtest: take %s: it is not free", name)
	}
	r.Token = out.Token
	return r
}

// Release gives the lock back. It is harmless when the rival does not hold it any more.
func (r *Rival) Release() {
	r.s.t.Helper()
	r.s.poll("release "+r.name, func(ctx context.Context, n *node.Node) error {
		_, err := n.Propose(ctx, command.FromRelease(&command.Release{Name: r.name, Key: r.key}))
		return err
	})
}
