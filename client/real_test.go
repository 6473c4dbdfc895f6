package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/doubledutch-lock/doubledutch/client"
)

// patience is a bound that only something that hangs will miss.
const patience = 30 * time.Second

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func must[T any](t *testing.T) func(T, error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func unlock(t *testing.T, leases ...*client.Lease) {
	t.Helper()
	for _, l := range leases {
		if err := l.Unlock(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func wantErr(t *testing.T, err, kind error) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Errorf("the error is %v, which is not %q", err, kind)
	}
}

func TestRealLocks(t *testing.T) {
	c, ctx := open(t, client.WithOwner("worker-3")), within(t)
	l := must[*client.Lease](t)(c.Lock(ctx, "a/b c", client.Metadata("why")))
	_, err := c.TryLock(ctx, "a/b c")
	wantErr(t, err, client.ErrHeld)
	var p *client.Problem
	if !errors.As(err, &p) || p.Code != "held" || p.Holder == nil || p.Holder.Owner != "worker-3" || p.Holder.Metadata != "why" || p.Holder.ExpiresIn < time.Second {
		t.Errorf("problem %+v", p)
	}
	_, err = c.Lock(ctx, "a/b c", client.Wait(50*time.Millisecond))
	wantErr(t, err, client.ErrHeld)
	next := make(chan *client.Lease)
	go func() {
		n, err := c.Lock(ctx, "a/b c", client.TTL(time.Hour))
		if err != nil {
			t.Error(err)
		}
		next <- n
	}()
	waitFor(t, func() bool { return must[*client.LockInfo](t)(c.Get(ctx, "a/b c")).QueueLength == 1 })
	unlock(t, l)
	n := <-next
	if n.Token() <= l.Token() || n.Remaining() < 50*time.Minute {
		t.Errorf("got %v, %v", n, n.Remaining())
	}
	if !must[bool](t)(c.Verify(ctx, "a/b c", n.Token())) || must[bool](t)(c.Verify(ctx, "a/b c", l.Token())) {
		t.Error("verify")
	}
	unlock(t, n)
	_, err = c.TryLock(ctx, "x", client.TTL(1000*24*time.Hour))
	wantErr(t, err, client.ErrRefused)
	for _, bad := range []string{"", ".", "..", "a\x00b", "a\xff"} {
		_, err = c.TryLock(ctx, bad)
		wantErr(t, err, client.ErrRefused)
	}
}

// waitFor polls a condition, which is the only way to see from outside that a request has got so far.
func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it did not happen")
		}
	}
}

func TestRealModes(t *testing.T) {
	c, ctx := open(t), within(t)
	lock := must[*client.Lease](t)
	r1, r2 := lock(c.Lock(ctx, "file", client.Shared())), lock(c.TryLock(ctx, "file", client.Shared()))
	_, err := c.TryLock(ctx, "file")
	wantErr(t, err, client.ErrHeld)
	unlock(t, r1, r2)
	s1, s2 := lock(c.Lock(ctx, "gpu", client.Slots(2))), lock(c.TryLock(ctx, "gpu", client.Slots(2)))
	_, err = c.TryLock(ctx, "gpu", client.Slots(2))
	wantErr(t, err, client.ErrHeld)
	_, err = c.TryLock(ctx, "gpu", client.Slots(3))
	wantErr(t, err, client.ErrRefused)
	unlock(t, s1, s2)
	set := lock(c.LockAll(ctx, []string{"a", "file", "gpu"}, client.SharedFor("file"), client.SlotsFor(2, "gpu")))
	_, err = c.TryLockAll(ctx, []string{"b", "a"})
	wantErr(t, err, client.ErrHeld)
	reader := lock(c.TryLock(ctx, "file", client.Shared()))
	other := lock(c.TryLock(ctx, "gpu", client.Slots(2)))
	if !slices.Equal(set.Names(), []string{"a", "file", "gpu"}) {
		t.Errorf("names %q", set.Names())
	}
	unlock(t, set, reader, other)
	again := lock(c.TryLockAll(ctx, []string{"b", "a"}))
	unlock(t, again)
}

func TestRealKeyIsTheSameRequest(t *testing.T) {
	url, stop := serve()
	t.Cleanup(stop)
	ctx, key := within(t), client.NewKey()
	first := must[*client.Lease](t)(dial(t, url).Lock(ctx, "x", client.Key(key)))
	second := must[*client.Lease](t)(dial(t, url).Lock(ctx, "x", client.Key(key)))
	if first.Token() != second.Token() || second.Key() != key {
		t.Errorf("got %v and %v", first, second)
	}
	unlock(t, second)
	wantErr(t, first.Unlock(ctx), client.ErrLost)
}

func TestRealHandOverAndAsk(t *testing.T) {
	url, stop := serve()
	t.Cleanup(stop)
	ctx, c := within(t), dial(t, url)
	l := must[*client.Lease](t)(c.Lock(ctx, "x"))
	wantErr(t, l.HandOver(ctx, "nobody"), client.ErrNoSuccessor)
	if l.Err() != nil {
		t.Error(l.Err())
	}
	got := make(chan *client.Lease, 2)
	for i, owner := range []string{"worker-7", "worker-8"} {
		go func() {
			n, err := dial(t, url).Lock(ctx, "x", client.Owner(owner))
			if err != nil {
				t.Error(err)
			}
			got <- n
		}()
		waitFor(t, func() bool { return must[*client.LockInfo](t)(c.Get(ctx, "x")).QueueLength == i+1 })
	}
	if err := dial(t, url, client.WithOwner("ops")).Ask(ctx, "x", "new disk", time.Minute); err != nil {
		t.Error(err)
	}
	l.RenewNow()
	select {
	case a := <-l.Asked():
		if a.Owner != "ops" || a.Reason != "new disk" || a.Within != time.Minute {
			t.Errorf("asked %+v", a)
		}
	case <-ctx.Done():
		t.Error("nobody was told")
	}
	if err := l.HandOver(ctx, "worker-8"); err != nil {
		t.Error(err)
	}
	wantErr(t, l.Err(), client.ErrReleased)
	second := <-got
	info := must[*client.LockInfo](t)(c.Get(ctx, "x"))
	if info.Holders[0].Owner != "worker-8" || info.Holders[0].Token != second.Token() || info.Queue[0].Owner != "worker-7" {
		t.Errorf("got %+v", info)
	}
	unlock(t, second)
	unlock(t, <-got)
}

func TestRealSession(t *testing.T) {
	c, ctx := open(t), within(t)
	s := must[*client.Session](t)(c.Open(ctx, client.Owner("s")))
	a := must[*client.Lease](t)(s.Lock(ctx, "a"))
	again := must[*client.Lease](t)(s.TryLock(ctx, "a"))
	if a.Token() != again.Token() {
		t.Error("it is not one hold")
	}
	b := must[*client.Lease](t)(s.LockAll(ctx, []string{"b", "c"}))
	other := must[*client.Session](t)(c.Open(ctx, client.Owner("o")))
	d := must[*client.Lease](t)(other.Lock(ctx, "d"))
	waits := make(chan error, 1)
	go func() {
		_, err := other.Lock(ctx, "a")
		waits <- err
	}()
	waitFor(t, func() bool { return must[*client.LockInfo](t)(c.Get(ctx, "a")).QueueLength == 1 })
	_, err := s.Lock(ctx, "d")
	wantErr(t, err, client.ErrDeadlock)
	var p *client.Problem
	if !errors.As(err, &p) || len(p.Cycle) != 2 || p.Cycle[0].WaitsFor == "" {
		t.Errorf("problem %+v", p)
	}
	if err := other.End(ctx); err != nil {
		t.Error(err)
	}
	if err := <-waits; err == nil {
		t.Error("who waits in a session that has ended, waits no more")
	}
	wantErr(t, d.Err(), client.ErrReleased)
	unlock(t, again)
	if info := must[*client.LockInfo](t)(c.Get(ctx, "a")); !info.Held {
		t.Error("it is free although one of two leases is left")
	}
	unlock(t, a)
	if info := must[*client.LockInfo](t)(c.Get(ctx, "a")); info.Held {
		t.Error("it is held although both leases are unlocked")
	}
	first := b.Deadline()
	s.RenewNow()
	waitFor(t, func() bool { return b.Deadline().After(first.Add(time.Millisecond)) })
	for range 2 {
		if err := s.End(ctx); err != nil {
			t.Error(err)
		}
	}
	wantErr(t, b.Err(), client.ErrReleased)
	unlock(t, b) // it is unlocked already
}

func TestRealOnce(t *testing.T) {
	c, ctx := open(t, client.WithOwner("replica-1")), within(t)
	runs := make(chan struct{}, 3)
	release := make(chan struct{})
	work := func(ctx context.Context, claim *client.Claim) (string, error) {
		if err := claim.Progress(ctx, "half"); err != nil {
			t.Error(err)
		}
		runs <- struct{}{}
		<-release
		return "42 tables", claim.Err()
	}
	results := make(chan *client.Done, 3)
	for range 3 {
		go func() {
			d, err := c.Once(ctx, "migrate", work)
			if err != nil {
				t.Error(err)
			}
			results <- d
		}()
	}
	<-runs
	waitFor(t, func() bool { return must[*client.TaskInfo](t)(c.Task(ctx, "migrate")).QueueLength == 2 })
	if info := must[*client.TaskInfo](t)(c.Task(ctx, "migrate")); info.Status != client.TaskRunning || info.Progress != "half" || info.Owner != "replica-1" {
		t.Errorf("task %+v", info)
	}
	_, err := c.Once(ctx, "migrate", work, client.Wait(0))
	wantErr(t, err, client.ErrHeld)
	close(release)
	mine := 0
	for range 3 {
		d := <-results
		if d.Mine {
			mine++
		}
		if d.Result != "42 tables" || d.Owner != "replica-1" || d.Attempt != 1 {
			t.Errorf("got %+v", d)
		}
	}
	if mine != 1 || len(runs) != 0 {
		t.Errorf("it was done %d times", mine)
	}
}

func TestRealOnceFails(t *testing.T) {
	c, ctx := open(t), within(t)
	boom := errors.New("boom")
	fails := func(context.Context, *client.Claim) (string, error) { return "", boom }
	_, err := c.Once(ctx, "t", fails, client.MaxAttempts(2))
	wantErr(t, err, boom)
	_, err = c.Once(ctx, "t", func(_ context.Context, claim *client.Claim) (string, error) {
		if claim.Attempt != 2 || claim.LastError != "boom" {
			t.Errorf("attempt %d after %q", claim.Attempt, claim.LastError)
		}
		return "", boom
	}, client.MaxAttempts(2))
	wantErr(t, err, boom)
	_, err = c.Once(ctx, "t", fails, client.MaxAttempts(2))
	wantErr(t, err, client.ErrFailed)
	func() {
		defer func() {
			if recover() != "oops" {
				t.Error("the panic is lost")
			}
		}()
		_, _ = c.Once(ctx, "p", func(context.Context, *client.Claim) (string, error) { panic("oops") })
	}()
	if info := must[*client.TaskInfo](t)(c.Task(ctx, "p")); info.Status != client.TaskOpen || info.Error == "" {
		t.Errorf("after a panic: %+v", info)
	}
	_, err = c.Task(ctx, "none")
	wantErr(t, err, client.ErrNoTask)
	for i, result := range []string{strings.Repeat("x", 20<<10), "\x1b[1m", "\x00"} { // it is done all the same
		name := fmt.Sprintf("done %d", i)
		works := func(context.Context, *client.Claim) (string, error) { return result, nil }
		_, err = c.Once(ctx, name, works, client.AtMostOnce())
		wantErr(t, err, client.ErrRefused)
		if info := must[*client.TaskInfo](t)(c.Task(ctx, name)); info.Status != client.TaskDone || info.Result != "" {
			t.Errorf("after %.9q: %+v", result, info)
		}
	}
	for i, why := range []string{"a\r\n\x1b[31mb\x00\xff", strings.Repeat("ö", 20<<10), "x" + strings.Repeat("ö", 20<<10)} {
		name := fmt.Sprintf("odd %d", i)
		_, err = c.Once(ctx, name, func(context.Context, *client.Claim) (string, error) { return "", errors.New(why) })
		if errors.Is(err, client.ErrRefused) {
			t.Errorf("%.9q cannot be reported: %v", why, err)
		}
		if info := must[*client.TaskInfo](t)(c.Task(ctx, name)); info.Status != client.TaskOpen || info.Error == "" {
			t.Errorf("after %.9q: %.99v", why, info)
		}
	}
}

func TestRealSchedule(t *testing.T) {
	c, ctx := open(t), within(t)
	n := 0
	job := func(_ context.Context, claim *client.Claim) (string, error) {
		n++
		if !claim.SlotEnd.After(claim.SlotStart) {
			t.Errorf("slot %v to %v", claim.SlotStart, claim.SlotEnd)
		}
		return "", nil
	}
	for range 3 {
		_ = must[*client.Done](t)(c.Once(ctx, "nightly", job, client.Cron("30 2 * * *", "Europe/Zurich")))
	}
	for range 3 {
		_ = must[*client.Done](t)(c.Once(ctx, "hourly", job, client.Every(1000*time.Hour)))
	}
	if n != 2 {
		t.Errorf("%d runs of two jobs", n)
	}
	_, err := c.Once(ctx, "bad", job, client.Cron("whenever", ""))
	wantErr(t, err, client.ErrRefused)
}

func TestRealElection(t *testing.T) {
	url, stop := serve()
	t.Cleanup(stop)
	ctx, c := within(t), dial(t, url)
	_, err := c.Leader(ctx, "office")
	wantErr(t, err, client.ErrNoLeader)
	watch, enough := context.WithCancel(ctx)
	seen := make(chan string)
	go func() {
		defer close(seen)
		for l, err := range c.Observe(watch, "office") {
			switch {
			case err != nil:
				wantErr(t, err, context.Canceled)
			case l == nil:
				seen <- "nobody"
			default:
				seen <- l.Value
			}
		}
	}()
	want := func(text string) {
		t.Helper()
		select {
		case got := <-seen:
			if got != text {
				t.Errorf("saw %q, want %q", got, text)
			}
		case <-ctx.Done():
			t.Fatalf("%q was not seen", text)
		}
	}
	want("nobody")
	first := must[*client.Leadership](t)(c.Campaign(ctx, "office", "http://a"))
	want("http://a")
	next := make(chan *client.Leadership)
	go func() {
		n, err := dial(t, url).Campaign(ctx, "office", "http://b")
		if err != nil {
			t.Error(err)
		}
		next <- n
	}()
	waitFor(t, func() bool { return must[*client.LockInfo](t)(c.Get(ctx, "office")).QueueLength == 1 })
	if err := first.Resign(ctx); err != nil {
		t.Error(err)
	}
	second := <-next
	want("http://b")
	l := must[*client.Leader](t)(c.Leader(ctx, "office"))
	if l.Value != "http://b" || l.Token != second.Token() || l.Token <= first.Token() {
		t.Errorf("leader %+v", l)
	}
	if err := second.Resign(ctx); err != nil {
		t.Error(err)
	}
	want("nobody")
	enough()
	for range seen { // until it has ended
	}
}

func TestRealEvents(t *testing.T) {
	c, ctx := open(t, client.WithOwner("me")), within(t)
	var kinds []string
	var last string
	for e, err := range c.Watch(ctx, client.OfLocks("w/")) {
		if err != nil {
			t.Fatal(err)
		}
		kinds = append(kinds, e.Kind)
		last = e.ID
		if e.Kind == client.EventBegan {
			unlock(t, must[*client.Lease](t)(c.Lock(ctx, "other")))
			unlock(t, must[*client.Lease](t)(c.Lock(ctx, "w/x")))
			continue
		}
		if e.Name != "w/x" || e.Token == 0 || e.Owner != "me" {
			t.Errorf("event %+v", e)
		}
		if e.Kind == "released" {
			break
		}
	}
	if !slices.Equal(kinds, []string{"began", "granted", "released"}) {
		t.Errorf("kinds %q", kinds)
	}
	unlock(t, must[*client.Lease](t)(c.Lock(ctx, "w/y")))
	for e, err := range c.Watch(ctx, client.OfLocks("w/"), client.After(last)) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind == client.EventBegan {
			continue
		}
		if e.Kind != "granted" || e.Name != "w/y" {
			t.Errorf("after %s came %+v", last, e)
		}
		break
	}
}

func TestRealList(t *testing.T) {
	c, ctx := open(t), within(t)
	var leases []*client.Lease
	for _, name := range []string{"l/c", "l/a", "m", "l/b"} {
		leases = append(leases, must[*client.Lease](t)(c.Lock(ctx, name)))
	}
	var names []string
	for l, err := range c.List(ctx, "l/") {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, l.Name)
	}
	if !slices.Equal(names, []string{"l/a", "l/b", "l/c"}) {
		t.Errorf("names %q", names)
	}
	unlock(t, leases...)
	_ = must[*client.Done](t)(c.Once(ctx, "t", func(context.Context, *client.Claim) (string, error) { return "", nil }))
	n := 0
	for info, err := range c.Tasks(ctx, "") {
		if n++; err != nil || info.Name != "t" || info.Status != client.TaskDone {
			t.Errorf("task %+v, %v", info, err)
		}
	}
	if n != 1 {
		t.Errorf("%d tasks", n)
	}
}

func TestRealDo(t *testing.T) {
	c, ctx := open(t), within(t)
	boom := errors.New("boom")
	wantErr(t, c.Do(ctx, "x", func(ctx context.Context, l *client.Lease) error { return errors.Join(boom, ctx.Err(), l.Err()) }), boom)
	if must[*client.LockInfo](t)(c.Get(ctx, "x")).Held {
		t.Error("it is still held")
	}
	if err := c.Do(ctx, "x", func(context.Context, *client.Lease) error { return nil }); err != nil {
		t.Error(err)
	}
}

// An operator breaks one lock of a session. The session lives on, and the lease learns of it.
func TestRealBrokenInSession(t *testing.T) {
	address, stop := serve()
	t.Cleanup(stop)
	ctx, c := within(t), dial(t, address)
	s := must[*client.Session](t)(c.Open(ctx))
	a, b := must[*client.Lease](t)(s.Lock(ctx, "a")), must[*client.Lease](t)(s.Lock(ctx, "b"))
	req, err := http.NewRequestWithContext(ctx, http.MethodDelete, address+"/v1/locks/a/holders?reason=it+hangs&owner=ops", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	s.RenewNow()
	select {
	case <-a.Lost():
	case <-ctx.Done():
		t.Fatal("it was not noticed")
	}
	var p *client.Problem
	wantErr(t, a.Err(), client.ErrLost)
	if !errors.As(a.Err(), &p) || p.By != "ops" || p.Reason != "it hangs" {
		t.Errorf("the error does not say who and why: %v", a.Err())
	}
	if err := errors.Join(b.Err(), s.Err()); err != nil {
		t.Errorf("more is lost than was broken: %v", err)
	}
	if err := s.End(ctx); err != nil {
		t.Error(err)
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	c, ctx := open(t), within(t)
	l := must[*client.Lease](t)(c.Lock(ctx, "x"))
	s := must[*client.Session](t)(c.Open(ctx))
	inner := must[*client.Lease](t)(s.Lock(ctx, "y"))
	text := fmt.Sprintf("%v %+v %#v %s %v %+v %#v %v %#v", l, l, l, l.Err(), s, s, s, inner, inner)
	for _, secret := range []string{l.Key(), s.ID(), inner.Key()} {
		if strings.Contains(text, secret) {
			t.Errorf("a secret is in %s", text)
		}
	}
	unlock(t, l, inner)
	if err := s.End(ctx); err != nil {
		t.Error(err)
	}
}

func TestRealVerifyAll(t *testing.T) {
	c, ctx := open(t), within(t)
	a, b := must[*client.Lease](t)(c.Lock(ctx, "a")), must[*client.Lease](t)(c.Lock(ctx, "b"))
	unlock(t, b)
	tokens := []client.NameToken{{"a", a.Token()}, {"b", b.Token()}, {"a", b.Token()}}
	if got := must[[]bool](t)(c.VerifyAll(ctx, tokens)); !slices.Equal(got, []bool{true, false, false}) {
		t.Errorf("got %v", got)
	}
	if got := must[[]bool](t)(c.VerifyAll(ctx, nil)); len(got) != 0 {
		t.Errorf("got %v", got)
	}
	unlock(t, a)
}
