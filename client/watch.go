package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Kinds of events that are the stream's own. All others are the server's: granted, released, expired, revoked, handed_over, queued,
// cancelled, timed_out, asked, and task_claimed, task_progress, task_done, task_failed, task_lost, task_taken_back, task_settled,
// task_forgotten. More may come.
const (
	// EventBegan is the first event: nothing of what happens from now on is missed. Look at the present state now.
	EventBegan = "began"
	// EventMissed tells of a gap: events have passed that no server keeps any more. Look at the present state.
	EventMissed = "missed"
)

// Event is something that has happened to a lock or a task.
type Event struct {
	ID   string // where it is in the log, for [After]
	Kind string
	Name string    // of the lock or task
	At   time.Time // by the cluster's calendar

	Token           uint64
	Mode            string
	Slots           int
	Owner, Metadata string
	Set             int           // the hold or place is that of a set of so many locks
	Waited, HeldFor time.Duration //
	By, Reason      string        // who broke it, asked for it, or got it; and why
	Within          time.Duration // of an ask

	// Of tasks.
	Status                  string
	Attempt                 int
	Progress, Result, Error string
}

// WatchOption says what to watch.
type WatchOption func(*watching)

// OfLock watches one lock.
func OfLock(name string) WatchOption {
	return func(w *watching) { w.path, w.query = lockPath(name)+"/events", nil }
}

// OfTask watches one task.
func OfTask(name string) WatchOption {
	return func(w *watching) { w.path, w.query = taskPath(name)+"/events", nil }
}

// OfLocks watches all locks whose names begin so.
func OfLocks(prefix string) WatchOption { return ofAll("locks", prefix) }

// OfTasks watches all tasks whose names begin so.
func OfTasks(prefix string) WatchOption { return ofAll("tasks", prefix) }

func ofAll(of, prefix string) WatchOption {
	return func(w *watching) { w.path, w.query = "/v1/events", url.Values{"of": {of}, "prefix": {prefix}} }
}

// After goes on behind an event that was seen before.
func After(id string) WatchOption { return func(w *watching) { w.last = id } }

// watching is a stream of events, over however many connections.
type watching struct {
	client *Client
	path   string
	query  url.Values
	last   string // the id behind which to go on
	began  bool
	heard  instant // when anything came last
}

// The server says something at least every 15 s; a connection on which nothing came for so long is dead.
const streamPause = 20 * time.Second

// errStop says that the caller does not want any more.
var errStop = errors.New("enough")

// Watch tells what happens, from now on or [After] an event, until ctx ends; without options of all locks and tasks. When a connection is
// lost it goes on, at another endpoint if there is one, behind the last event. It begins with an event of kind [EventBegan].
//
// It ends with an error: the end of ctx, a refusal, or [ErrUnavailable] if for the time of [WithPatience] no endpoint could be followed.
// Read on swiftly: a server cuts off who reads too slowly, which shows as a gap.
func (c *Client) Watch(ctx context.Context, options ...WatchOption) iter.Seq2[Event, error] {
	w := watching{client: c, path: "/v1/events"}
	for _, f := range options {
		f(&w)
	}
	return func(yield func(Event, error) bool) {
		w := w // each range over it begins anew
		ctx, end := c.bound(ctx)
		defer end()
		if err := w.run(ctx, yield); !errors.Is(err, errStop) {
			yield(Event{}, wrap("watch", err))
		}
	}
}

// bound returns a context that ends with ctx, and with the client.
func (c *Client) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(c.ending, func() { cancel(ErrClosed) })
	return ctx, func() { stop(); cancel(nil) }
}

func (w *watching) run(ctx context.Context, yield func(Event, error) bool) error {
	w.heard = w.client.clock.now()
	for {
		to, pause := w.client.pool.pick(func(*endpoint) bool { return false })
		if !sleep(ctx, pause) {
			return endOf(ctx)
		}
		err := w.follow(ctx, to, yield)
		var p *Problem
		switch {
		case errors.Is(err, errStop):
			return err
		case ctx.Err() != nil:
			return endOf(ctx)
		case errors.As(err, &p) && p.final():
			return p
		case errors.As(err, &p):
			w.client.pool.failed(to, p.RetryAfter)
		default:
			w.client.pool.failed(to, 0)
		}
		w.client.log.Debug("a stream of events was lost", "error", err)
		if patience := w.client.config.patience; patience >= 0 && w.client.clock.now().sub(w.heard) > patience+streamPause {
			return both(ErrUnavailable, err)
		}
	}
}

// follow reads the events of one connection.
func (w *watching) follow(ctx context.Context, to *endpoint, yield func(Event, error) bool) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	alive := time.AfterFunc(w.client.config.try, func() { cancel(errNoAnswer) })
	defer alive.Stop()
	r := &request{method: http.MethodGet, path: w.path, query: w.query.Encode()}
	if w.last != "" {
		r.header = map[string]string{"Last-Event-ID": w.last}
	}
	resp, err := w.client.send(ctx, r, to)
	if err != nil {
		return w.client.explain(to, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
		return newProblem(resp.StatusCode, resp.Header, body)
	}
	w.client.pool.ok(to)
	if first := !w.began; first || w.last == "" {
		w.began = true
		kind := EventBegan
		if !first { // there was no event yet behind which to go on
			kind = EventMissed
		}
		alive.Stop() // the caller may take its time
		if !yield(Event{Kind: kind}, nil) {
			return errStop
		}
	}
	return w.read(to, resp.Body, alive, yield)
}

func (w *watching) read(to *endpoint, body io.Reader, alive *time.Timer, yield func(Event, error) bool) error {
	lines := bufio.NewReaderSize(body, 64<<10)
	var id, kind, data string
	for {
		alive.Reset(streamPause)
		line, err := lines.ReadString('\n')
		if err != nil {
			return w.client.explain(to, err)
		}
		w.heard = w.client.clock.now()
		name, value, _ := strings.Cut(strings.TrimRight(line, "\r\n"), ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "id":
			id = value
		case "event":
			kind = value
		case "data":
			data += value
		}
		if name != "" || value != "" || kind == "" {
			continue
		}
		e, err := readEvent(id, kind, data)
		if err != nil {
			return w.client.explain(to, err)
		}
		w.last = id
		id, kind, data = "", "", ""
		alive.Stop()
		if !yield(e, nil) {
			return errStop
		}
	}
}

func readEvent(id, kind, data string) (Event, error) {
	var d struct {
		Name            string
		At              time.Time
		Token           uint64
		Mode            string
		Slots           int
		Owner, Metadata string
		Set             int
		Waited          seconds
		HeldFor         seconds `json:"held_for"`
		By, Reason      string
		Within          seconds
		Status          string
		Attempt         int
		Progress        string
		Result          string
		Error           string
	}
	if err := json.Unmarshal([]byte(data), &d); err != nil {
		return Event{}, err
	}
	return Event{
		ID: id, Kind: kind, Name: d.Name, At: d.At, Token: d.Token, Mode: d.Mode, Slots: d.Slots, Owner: d.Owner, Metadata: d.Metadata,
		Set: d.Set, Waited: d.Waited.duration(), HeldFor: d.HeldFor.duration(), By: d.By, Reason: d.Reason, Within: d.Within.duration(),
		Status: d.Status, Attempt: d.Attempt, Progress: d.Progress, Result: d.Result, Error: d.Error,
	}, nil
}
