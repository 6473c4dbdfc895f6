package client

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"time"
)

// LockInfo is how a lock stands, after everything that was acknowledged before it was asked for.
type LockInfo struct {
	Name         string
	Held         bool
	Slots        int // of a semaphore
	Holders      []Holder
	HolderCount  int // Holders may have fewer
	Queue        []Waiter
	QueueLength  int           // Queue may have fewer
	BlockedFor   time.Duration // by a lock delay
	ExpectedWait time.Duration // of one who comes now; a guess from earlier holds, 0 if there is none
	Asked        *Ask          // what the holders are asked, if anything

	// WaitsFor is what the first holder itself waits for, then the one who keeps it from it, and so on. InCircle: the last step leads
	// back to one before, and nobody gets on by itself.
	WaitsFor []WaitStep
	InCircle bool
}

// Waiter is one who waits for a lock.
type Waiter struct {
	Owner, Metadata, Mode string
	Position              int // 1 is next
	Since                 time.Time
	Waited                time.Duration
	GivesUpIn             time.Duration // 0 if it waits without end
	ExpectedWait          time.Duration
}

// UnmarshalJSON reads what the interface tells of a waiter.
func (w *Waiter) UnmarshalJSON(b []byte) error {
	var x struct {
		Owner, Metadata, Mode string
		Position              int
		Since                 time.Time
		Waited                seconds
		GivesUpIn             seconds `json:"gives_up_in"`
		ExpectedWait          seconds `json:"expected_wait"`
	}
	if err := json.Unmarshal(b, &x); err != nil {
		return err
	}
	*w = Waiter{
		Owner: x.Owner, Metadata: x.Metadata, Mode: x.Mode, Position: x.Position, Since: x.Since, Waited: x.Waited.duration(),
		GivesUpIn: x.GivesUpIn.duration(), ExpectedWait: x.ExpectedWait.duration(),
	}
	return nil
}

// UnmarshalJSON reads what the interface tells of a lock.
func (l *LockInfo) UnmarshalJSON(b []byte) error {
	var w struct {
		Name         string
		Held         bool
		Slots        int
		Holders      []Holder
		HolderCount  int `json:"holder_count"`
		Queue        []Waiter
		QueueLength  int     `json:"queue_length"`
		BlockedFor   seconds `json:"blocked_for"`
		ExpectedWait seconds `json:"expected_wait"`
		Asked        *askedFor
		WaitsFor     []WaitStep `json:"waits_for"`
		InCircle     bool       `json:"waits_in_circle"`
	}
	if err := json.Unmarshal(b, &w); err != nil {
		return err
	}
	*l = LockInfo{
		Name: w.Name, Held: w.Held, Slots: w.Slots, Holders: w.Holders, HolderCount: w.HolderCount, Queue: w.Queue,
		QueueLength: w.QueueLength, BlockedFor: w.BlockedFor.duration(), ExpectedWait: w.ExpectedWait.duration(),
		WaitsFor: w.WaitsFor, InCircle: w.InCircle,
	}
	if w.Asked != nil {
		ask := w.Asked.ask()
		l.Asked = &ask
	}
	return nil
}

// Get tells how a lock stands. A lock that nobody uses is free, and no error.
func (c *Client) Get(ctx context.Context, name string) (*LockInfo, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	var l LockInfo
	err := c.ask(ctx, &request{method: http.MethodGet, path: lockPath(name)}, &l)
	if err != nil {
		return nil, wrap("look at lock "+quoteNames([]string{name}), err)
	}
	return &l, nil
}

// List tells of all locks in use whose names begin so, in the byte order of the names, each with ten holders and waiters at most. It
// ends after the first error. Locks that come or go meanwhile may be missed.
func (c *Client) List(ctx context.Context, prefix string) iter.Seq2[*LockInfo, error] {
	return pages(ctx, c, "/v1/locks", prefix, func(p *page) []LockInfo { return p.Locks })
}

// Tasks tells of all tasks whose names begin so, like List. Results, errors and progress are left out.
func (c *Client) Tasks(ctx context.Context, prefix string) iter.Seq2[*TaskInfo, error] {
	return pages(ctx, c, "/v1/tasks", prefix, func(p *page) []TaskInfo { return p.Tasks })
}

type page struct {
	Locks  []LockInfo
	Tasks  []TaskInfo
	Cursor string
}

func pages[T any](ctx context.Context, c *Client, path, prefix string, of func(*page) []T) iter.Seq2[*T, error] {
	return func(yield func(*T, error) bool) {
		for cursor := ""; ; {
			q := url.Values{"prefix": {prefix}, "limit": {"1000"}}
			if cursor != "" {
				q.Set("cursor", cursor)
			}
			var p page
			if err := c.ask(ctx, &request{method: http.MethodGet, path: path, query: q.Encode()}, &p); err != nil {
				yield(nil, wrap("list", err))
				return
			}
			list := of(&p)
			for i := range list {
				if !yield(&list[i], nil) {
					return
				}
			}
			if cursor = p.Cursor; cursor == "" {
				return
			}
		}
	}
}

// How a task stands.
const (
	TaskOpen    = "open" // the next attempt can begin, now or in a while
	TaskRunning = "running"
	TaskDone    = "done"
	TaskFailed  = "failed"  // no attempt is left
	TaskUnknown = "unknown" // an at-most-once task whose claimant was lost
)

// TaskInfo is how a task stands.
type TaskInfo struct {
	Name        string
	Status      string
	Attempt     int // attempts that were begun
	MaxAttempts int // 0: any number
	AtMostOnce  bool
	Token       uint64        // of the newest attempt
	Since       time.Time     // when it began
	Owner       string        // who has, or had, it
	Metadata    string        //
	Progress    string        // what it told last
	Result      string        // if it is done
	Error       string        // of the last attempt that ended badly
	ExpiresIn   time.Duration // of the claim
	Ended       time.Time
	ClaimableIn time.Duration
	ForgottenIn time.Duration // 0: it stays
	Slot        Slot
	QueueLength int
}

// Slot is a slot of a schedule, by the cluster's calendar.
type Slot struct {
	Start time.Time
	End   time.Time
}

// UnmarshalJSON reads what the interface tells of a task.
func (t *TaskInfo) UnmarshalJSON(b []byte) error {
	var w struct {
		Name, Status                             string
		Attempt                                  int
		MaxAttempts                              int  `json:"max_attempts"`
		AtMostOnce                               bool `json:"at_most_once"`
		Token                                    uint64
		Since                                    time.Time
		Owner, Metadata, Progress, Result, Error string
		ExpiresIn                                seconds `json:"expires_in"`
		Ended                                    time.Time
		ClaimableIn                              seconds `json:"claimable_in"`
		ForgottenIn                              seconds `json:"forgotten_in"`
		Slot                                     Slot
		QueueLength                              int `json:"queue_length"`
	}
	if err := json.Unmarshal(b, &w); err != nil {
		return err
	}
	*t = TaskInfo{
		Name: w.Name, Status: w.Status, Attempt: w.Attempt, MaxAttempts: w.MaxAttempts, AtMostOnce: w.AtMostOnce, Token: w.Token,
		Since: w.Since, Owner: w.Owner, Metadata: w.Metadata, Progress: w.Progress, Result: w.Result, Error: w.Error,
		ExpiresIn: w.ExpiresIn.duration(), Ended: w.Ended, ClaimableIn: w.ClaimableIn.duration(),
		ForgottenIn: w.ForgottenIn.duration(), Slot: w.Slot, QueueLength: w.QueueLength,
	}
	return nil
}

// Task tells how a task stands. Without a record of it the error is [ErrNoTask].
func (c *Client) Task(ctx context.Context, name string) (*TaskInfo, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	var t TaskInfo
	if err := c.ask(ctx, &request{method: http.MethodGet, path: taskPath(name)}, &t); err != nil {
		return nil, wrap("look at task "+quoteNames([]string{name}), err)
	}
	return &t, nil
}

// Ask asks the holders of a lock to make way within the given time, and says why. They are told when they renew, and do what they
// like. If nobody holds it, the error is [ErrLost].
func (c *Client) Ask(ctx context.Context, name, reason string, within time.Duration) error {
	if err := checkName(name); err != nil {
		return err
	}
	body := toJSON(struct {
		Owner  string  `json:"owner"`
		Reason string  `json:"reason"`
		Within seconds `json:"within,omitempty"`
	}{c.config.owner, reason, inSeconds(within)})
	var ok json.RawMessage
	err := c.ask(ctx, &request{method: http.MethodPost, path: lockPath(name) + "/ask", body: body}, &ok)
	return wrap("ask for lock "+quoteNames([]string{name}), err)
}

// NameToken is a token to verify, and the lock that it is said to be of.
type NameToken struct {
	Name  string `json:"name"`
	Token uint64 `json:"token"`
}

// Verify tells whether a token is that of the newest grant of a lock, and the lock still held under it. When the answer arrives it is
// history: a resource that remembers the highest token that it saw, and refuses lower ones, is safer.
func (c *Client) Verify(ctx context.Context, name string, token uint64) (bool, error) {
	var a struct{ Valid bool }
	r := &request{method: http.MethodPost, path: "/v1/verify", body: toJSON(NameToken{name, token})}
	err := c.ask(ctx, r, &a)
	return a.Valid, wrap("verify a token of "+quoteNames([]string{name}), err)
}

// VerifyAll verifies up to 1000 tokens at one moment. The results are in the order of the tokens.
func (c *Client) VerifyAll(ctx context.Context, tokens []NameToken) ([]bool, error) {
	if len(tokens) == 0 {
		return nil, nil
	}
	var a struct{ Results []struct{ Valid bool } }
	r := &request{method: http.MethodPost, path: "/v1/verify", body: toJSON(map[string][]NameToken{"tokens": tokens})}
	if err := c.ask(ctx, r, &a); err != nil {
		return nil, wrap("verify tokens", err)
	}
	if len(a.Results) != len(tokens) {
		return nil, wrap("verify tokens", both(ErrUnavailable, fmt.Errorf("%d tokens, %d results", len(tokens), len(a.Results))))
	}
	valid := make([]bool, len(tokens))
	for i := range valid {
		valid[i] = a.Results[i].Valid
	}
	return valid, nil
}
