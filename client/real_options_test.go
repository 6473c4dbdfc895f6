package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/doubledutch-lock/doubledutch/client"
)

// cable is a transport that can be cut.
type cable struct{ cut atomic.Bool }

func (c *cable) RoundTrip(req *http.Request) (*http.Response, error) {
	if c.cut.Load() {
		return nil, errors.New("cut")
	}
	return http.DefaultTransport.RoundTrip(req)
}

func TestRealInSession(t *testing.T) {
	c, ctx := open(t), within(t)
	s := must[*client.Session](t)(c.Open(ctx))
	l := must[*client.Lease](t)(c.Lock(ctx, "x", client.InSession(s)))
	_, err := c.TryLock(ctx, "y", client.InSession(s), client.TTL(time.Minute))
	wantErr(t, err, client.ErrRefused)
	if err := s.End(ctx); err != nil {
		t.Error(err)
	}
	wantErr(t, l.Err(), client.ErrReleased)
	wantErr(t, context.Cause(s.Context()), client.ErrReleased)
	wantErr(t, s.Err(), client.ErrReleased)
	_, err = c.TryLock(ctx, "x", client.InSession(s))
	wantErr(t, err, client.ErrReleased)
}

// A program that was started anew comes back to its session.
func TestRealSessionIsFoundAgain(t *testing.T) {
	address, stop := serve()
	t.Cleanup(stop)
	ctx, id, key := within(t), client.NewKey(), client.NewKey()
	var token uint64
	for range 2 {
		c := dial(t, address)
		s := must[*client.Session](t)(c.Open(ctx, client.Key(id)))
		unlock(t, must[*client.Lease](t)(s.Lock(ctx, "other")))
		l := must[*client.Lease](t)(s.Lock(ctx, "x", client.Key(key)))
		if token != 0 && l.Token() != token {
			t.Errorf("token %d, then %d", token, l.Token())
		}
		token = l.Token()
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A lock whose holder was cut off is kept from everybody for the delay. The holder knows that it is lost.
func TestRealLockDelay(t *testing.T) {
	t.Parallel()
	address, stop := serve()
	t.Cleanup(stop)
	ctx, line := within(t), &cable{}
	c := dial(t, address, client.WithHTTPClient(&http.Client{Transport: line}))
	l := must[*client.Lease](t)(c.Lock(ctx, "x", client.TTL(3*time.Second), client.LockDelay(time.Hour)))
	line.cut.Store(true)
	<-l.Lost()
	wantErr(t, l.Err(), client.ErrLost)
	line.cut.Store(false)
	other := dial(t, address)
	waitFor(t, func() bool { return must[*client.LockInfo](t)(other.Get(ctx, "x")).BlockedFor > 0 })
	_, err := other.TryLock(ctx, "x")
	wantErr(t, err, client.ErrHeld)
	var p *client.Problem
	if !errors.As(err, &p) || p.BlockedFor < time.Minute {
		t.Errorf("problem %+v", p)
	}
	wantErr(t, l.Unlock(ctx), client.ErrLost)
}

func TestRealAtMostOnce(t *testing.T) {
	t.Parallel()
	address, stop := serve()
	t.Cleanup(stop)
	ctx, line := within(t), &cable{}
	c := dial(t, address, client.WithHTTPClient(&http.Client{Transport: line}))
	other := dial(t, address)
	pays := func(ctx context.Context, claim *client.Claim) (string, error) {
		line.cut.Store(true)
		<-ctx.Done()
		wantErr(t, context.Cause(ctx), client.ErrLost)
		wantErr(t, claim.Err(), client.ErrLost)
		line.cut.Store(false)
		waitFor(t, func() bool {
			return must[*client.TaskInfo](t)(other.Task(t.Context(), "payout")).Status == client.TaskUnknown
		})
		return "paid", nil
	}
	_, err := c.Once(ctx, "payout", pays, client.AtMostOnce(), client.TTL(3*time.Second))
	wantErr(t, err, client.ErrLost)
	_, err = other.Once(ctx, "payout", pays, client.AtMostOnce())
	wantErr(t, err, client.ErrUnsettled)
}

// An error says that something may have been done, unless it says that nothing was.
func TestRealAtMostOnceFails(t *testing.T) {
	t.Parallel()
	c, ctx := open(t), within(t)
	oops := errors.New("oops")
	for name, why := range map[string]error{"unsure": oops, "sure": fmt.Errorf("no money: %w", client.ErrNotDone), "panic": nil} {
		func() {
			defer func() { _ = recover() }()
			_, err := c.Once(ctx, name, func(context.Context, *client.Claim) (string, error) {
				if why == nil {
					panic(oops)
				}
				return "", why
			}, client.AtMostOnce())
			wantErr(t, err, why)
		}()
		want := client.TaskUnknown
		if errors.Is(why, client.ErrNotDone) {
			want = client.TaskOpen
		}
		if info := must[*client.TaskInfo](t)(c.Task(ctx, name)); info.Status != want {
			t.Errorf("%s: %+v", name, info)
		}
	}
}

func TestRealKeepAndDelays(t *testing.T) {
	t.Parallel()
	c, ctx := open(t), within(t)
	n := 0
	works := func(context.Context, *client.Claim) (string, error) { n++; return "", nil }
	for range 2 { // nothing is kept, so it is done again
		_ = must[*client.Done](t)(c.Once(ctx, "forgotten", works, client.Keep(0)))
	}
	if n != 2 {
		t.Errorf("%d runs", n)
	}
	n = 0
	for range 2 {
		_ = must[*client.Done](t)(c.Once(ctx, "for good", works, client.Keep(-1)))
	}
	if n != 1 {
		t.Errorf("what is kept for good was done %d times", n)
	}
	boom := errors.New("boom")
	fails := func(context.Context, *client.Claim) (string, error) { return "", boom }
	_, err := c.Once(ctx, "later", fails, client.RetryDelay(time.Hour))
	wantErr(t, err, boom)
	_, err = c.Once(ctx, "later", fails, client.RetryDelay(time.Hour), client.Wait(0))
	wantErr(t, err, client.ErrHeld)
	_ = must[*client.Done](t)(c.Once(ctx, "seldom", works, client.Every(time.Second), client.AtLeast(time.Hour)))
	n = 0
	for end := time.Now().Add(1100 * time.Millisecond); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		_, _ = c.Once(ctx, "seldom", works, client.Every(time.Second), client.AtLeast(time.Hour), client.Wait(0))
	}
	if n != 0 {
		t.Errorf("%d runs within the hour", n)
	}
}

// Who gives up before the work has begun leaves nothing behind.
func TestRealTaskGivenUp(t *testing.T) {
	c, ctx := open(t), within(t)
	begun, stop := make(chan struct{}), make(chan struct{})
	first := make(chan error, 1)
	go func() {
		_, err := c.Once(ctx, "t", func(context.Context, *client.Claim) (string, error) {
			close(begun)
			<-stop
			return "42", nil
		})
		first <- err
	}()
	<-begun
	waits, giveUp := context.WithCancel(ctx)
	second := make(chan error, 1)
	go func() {
		_, err := c.Once(waits, "t", func(context.Context, *client.Claim) (string, error) { return "", nil })
		second <- err
	}()
	waitFor(t, func() bool { return must[*client.TaskInfo](t)(c.Task(ctx, "t")).QueueLength == 1 })
	giveUp()
	wantErr(t, <-second, context.Canceled)
	waitFor(t, func() bool { return must[*client.TaskInfo](t)(c.Task(ctx, "t")).QueueLength == 0 })
	close(stop)
	if err := <-first; err != nil {
		t.Error(err)
	}
}

func TestRealTaskEvents(t *testing.T) {
	c, ctx := open(t), within(t)
	var last client.Event
	for e, err := range c.Watch(ctx, client.OfTask("t")) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind == client.EventBegan {
			_ = must[*client.Done](t)(c.Once(ctx, "t", func(context.Context, *client.Claim) (string, error) { return "42", nil }))
		}
		if last = e; e.Kind == "task_done" {
			break
		}
	}
	if last.Name != "t" || last.Status != client.TaskDone || last.Attempt != 1 || last.Result != "42" {
		t.Errorf("event %+v", last)
	}
}

// forgetful carries every request to the server, and loses the first answer to each kind of request that asks for a change.
type forgetful struct {
	mu   sync.Mutex // guards seen
	seen map[string]bool
}

func (f *forgetful) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(req)
	f.mu.Lock()
	defer f.mu.Unlock()
	what := req.Method + " " + req.URL.Path
	if err != nil || f.seen[what] || req.Method == http.MethodGet {
		return resp, err
	}
	f.seen[what] = true
	_ = resp.Body.Close()
	return nil, errors.New("the answer is lost")
}

// T8: a repetition is the same request, for everything that can be asked.
func TestRealLostAnswers(t *testing.T) {
	c, ctx := open(t, client.WithHTTPClient(&http.Client{Transport: &forgetful{seen: map[string]bool{}}})), within(t)
	l := must[*client.Lease](t)(c.TryLock(ctx, "x"))
	if l.Token() != 1 {
		t.Errorf("token %d", l.Token())
	}
	before := l.Deadline()
	l.RenewNow()
	waitFor(t, func() bool { return l.Deadline().After(before.Add(time.Millisecond)) })
	unlock(t, l)
	unlock(t, must[*client.Lease](t)(c.TryLockAll(ctx, []string{"a", "b"})))

	s := must[*client.Session](t)(c.Open(ctx))
	a := must[*client.Lease](t)(s.TryLock(ctx, "y"))
	b := must[*client.Lease](t)(s.Lock(ctx, "y"))
	unlock(t, a)
	if !must[*client.LockInfo](t)(c.Get(ctx, "y")).Held {
		t.Error("one of two was unlocked twice")
	}
	unlock(t, b)
	if err := s.End(ctx); err != nil {
		t.Error(err)
	}

	n := 0
	done := must[*client.Done](t)(c.Once(ctx, "t", func(ctx context.Context, claim *client.Claim) (string, error) {
		n++
		return "42", claim.Progress(ctx, "half")
	}))
	if n != 1 || !done.Mine || done.Attempt != 1 {
		t.Errorf("%d runs, %+v", n, done)
	}
	boom := errors.New("boom")
	_, err := c.Once(ctx, "f", func(context.Context, *client.Claim) (string, error) { return "", boom })
	wantErr(t, err, boom)
	if info := must[*client.TaskInfo](t)(c.Task(ctx, "f")); info.Status != client.TaskOpen || info.Attempt != 1 {
		t.Errorf("task %+v", info)
	}
}

// A program that was started anew opens its session again, and does not know the numbers that it used before.
func TestRealSessionOpenedAgain(t *testing.T) {
	url, stop := serve()
	t.Cleanup(stop)
	ctx, id := within(t), client.NewKey()
	s := must[*client.Session](t)(dial(t, url).Open(ctx, client.Key(id)))
	for range 100 { // more than the server remembers
		unlock(t, must[*client.Lease](t)(s.Lock(ctx, "a")))
	}
	kept := must[*client.Lease](t)(s.Lock(ctx, "kept"))
	c := dial(t, url)
	s = must[*client.Session](t)(c.Open(ctx, client.Key(id)))
	again := must[*client.Lease](t)(s.Lock(ctx, "kept"))
	if again.Token() != kept.Token() {
		t.Error("it is not one session")
	}
	unlock(t, must[*client.Lease](t)(s.Lock(ctx, "a")))
	if info := must[*client.LockInfo](t)(c.Get(ctx, "a")); info.Held {
		t.Error("it was not unlocked")
	}
}
