package client

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestLockRenewUnlock(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		c := b.client()
		l := b.lock(c, "jobs/nightly run", TTL(10*time.Second))
		if l.Token() != 1 || l.Name() != "jobs/nightly run" || !isKey(l.Key()) || l.Err() != nil {
			t.Errorf("got %v, %v", l, l.Err())
		}
		if left := l.Remaining(); left != 9400*time.Millisecond { // 10 s less 1 % less a twentieth
			t.Errorf("%v remain", left)
		}
		time.Sleep(time.Minute)
		if l.Err() != nil || isDone(l.Context()) || b.server.holder("jobs/nightly run") != 1 {
			t.Errorf("after a minute: %v", l.Err())
		}
		if n := b.server.count("POST /v1/locks/jobs%2Fnightly%20run/renew"); n < 18 || n > 21 {
			t.Errorf("%d renewals in a minute", n)
		}
		if err := l.Unlock(t.Context()); err != nil {
			t.Error(err)
		}
		if b.server.holder("jobs/nightly run") != 0 {
			t.Error("it is still held")
		}
		wantErr(t, l.Err(), ErrReleased)
		wantErr(t, context.Cause(l.Context()), ErrReleased)
		if l.Remaining() != 0 || isClosed(l.Lost()) {
			t.Error("a lease that was unlocked is not lost, and nothing remains of it")
		}
		if err := l.Unlock(t.Context()); err != nil {
			t.Errorf("the second Unlock: %v", err)
		}
		if n := b.server.count("DELETE"); n != 1 {
			t.Errorf("%d releases", n)
		}
	})
}

// A grant whose answer a server is not sure of is taken back if nobody comes back for it. A renewal shows that it was heard of.
func TestLongLeaseIsConfirmed(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		l := b.lock(b.client(), "x", TTL(time.Hour))
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if n := b.server.count("POST /v1/locks/x/renew"); n != 1 {
			t.Errorf("%d renewals in ten seconds", n)
		}
		time.Sleep(15 * time.Minute)
		if n := b.server.count("POST /v1/locks/x/renew"); n != 1 {
			t.Errorf("%d renewals in a quarter of an hour", n)
		}
		_ = l.Unlock(t.Context())
	})
}

func TestTryLockOfAHeldLock(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		l := b.lock(b.client(), "x")
		start := time.Now()
		_, err := b.client().TryLock(t.Context(), "x")
		wantErr(t, err, ErrHeld)
		wantNot(t, err, ErrLost, ErrUnknown, ErrUnavailable, ErrRefused)
		if time.Since(start) != 0 {
			t.Error("a try waits")
		}
		if err := l.Unlock(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestWaitRunsOut(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		l := b.lock(b.client(), "x")
		start := time.Now()
		_, err := b.client().Lock(t.Context(), "x", Wait(25*time.Second))
		wantErr(t, err, ErrHeld)
		if d := time.Since(start); d < 25*time.Second || d > 26*time.Second {
			t.Errorf("it waited for %v", d)
		}
		if n := b.server.waiters("x"); n != 0 {
			t.Errorf("%d places are left", n)
		}
		if err := l.Unlock(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// T5: the grant comes long after the request was sent. With slices, each has a fresh moment of sending.
func TestLongWaitInSlices(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		first := b.lock(b.client(), "x", TTL(5*time.Second))
		time.AfterFunc(10*time.Minute, func() {
			if err := first.Unlock(context.Background()); err != nil {
				t.Error(err)
			}
		})
		places := 0
		second := b.lock(b.client(), "x", TTL(5*time.Second), OnPlace(func(p Place) {
			places++
			if p.Position != 1 || p.QueueLength != 1 {
				t.Errorf("place %+v", p)
			}
		}))
		if second.Token() != 2 || b.server.holder("x") != 2 {
			t.Errorf("got %v", second)
		}
		if places < 300 { // a slice is a third of the ttl
			t.Errorf("the place was told %d times in 10 minutes", places)
		}
		if second.Remaining() < 3*time.Second {
			t.Errorf("it was handed over with %v", second.Remaining())
		}
		if err := second.Unlock(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestContextEndsWhileWaiting(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		l := b.lock(b.client(), "x")
		for _, after := range []time.Duration{0, time.Second, 15 * time.Second} {
			ctx, cancel := context.WithTimeout(t.Context(), after)
			start := time.Now()
			_, err := b.client().Lock(ctx, "x")
			cancel()
			wantErr(t, err, context.DeadlineExceeded)
			wantNot(t, err, ErrHeld, ErrUnavailable)
			if d := time.Since(start); d != after {
				t.Errorf("it returned after %v instead of %v", d, after)
			}
			time.Sleep(time.Second)
			if n := b.server.waiters("x"); n != 0 {
				t.Errorf("%d places are left", n)
			}
		}
		if err := l.Unlock(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestNotHeldIsLostAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		l := b.lock(b.client(), "x", TTL(30*time.Second))
		b.server.breakHold("x")
		start := time.Now()
		<-l.Context().Done()
		if d := time.Since(start); d > 10*time.Second {
			t.Errorf("it was noticed after %v", d)
		}
		var p *Problem
		wantErr(t, l.Err(), ErrLost)
		wantErr(t, context.Cause(l.Context()), ErrLost)
		if !errorsAs(l.Err(), &p) || p.Code != "broken" || p.By != "ops" || p.Reason != "it hangs" {
			t.Errorf("the error does not say who and why: %v", l.Err())
		}
		if !isClosed(l.Lost()) {
			t.Error("Lost is not closed")
		}
		wantErr(t, l.Unlock(t.Context()), ErrLost)
	})
}

func TestLostBeforeTheServerCanGrantAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.server.rate = 1.01 // its clock is fast
		l := b.lock(b.client(), "x", TTL(10*time.Second))
		sent := time.Now()
		b.net.set(func(string, *http.Request) fault { return fault{blackHole: true} })
		<-l.Context().Done()
		if held := b.server.holder("x"); held != l.Token() {
			t.Error("the server had ended the hold before the client")
		}
		if d := time.Since(sent); d < 9390*time.Millisecond || d > 9400*time.Millisecond {
			t.Errorf("the context ended after %v", d)
		}
		wantErr(t, l.Err(), ErrLost)
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		wantErr(t, l.Unlock(ctx), ErrUnknown, context.DeadlineExceeded)
		if d := time.Since(start); d != time.Second {
			t.Errorf("Unlock took %v", d)
		}
		wantErr(t, l.Unlock(t.Context()), ErrLost)
	})
}

// T14: the machine was suspended, and no timer ran.
func TestSuspend(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		var asleep atomic.Int64
		c := b.client(func(c *config) error {
			c.asleep = func() time.Duration { return time.Duration(asleep.Load()) }
			return nil
		})
		l, other := b.lock(c, "x"), b.lock(c, "y")
		synctest.Wait()
		asleep.Store(int64(time.Minute))
		wantErr(t, l.Err(), ErrLost)
		if !isDone(l.Context()) || l.Remaining() != 0 {
			t.Error("it is believed in after the suspend")
		}
		time.Sleep(1100 * time.Millisecond) // nobody asks the other one
		if !isDone(other.Context()) {
			t.Error("the context did not end within a second after the suspend")
		}
		_, _ = l.Unlock(t.Context()), other.Unlock(t.Context())
	})
}

func TestShortSuspendIsSurvived(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		var asleep atomic.Int64
		c := b.client(func(c *config) error {
			c.asleep = func() time.Duration { return time.Duration(asleep.Load()) }
			return nil
		})
		l := b.lock(c, "x")
		asleep.Store(int64(15 * time.Second))
		if d := l.Remaining(); d > 15*time.Second {
			t.Errorf("%v remain", d)
		}
		time.Sleep(1100 * time.Millisecond)
		if d := l.Remaining(); d < 25*time.Second {
			t.Errorf("it was not renewed after the suspend: %v remain", d)
		}
		if err := l.Unlock(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestAsked(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		l := b.lock(b.client(), "x")
		b.server.askFor("x", &askedFor{Owner: "ops", Reason: "the backup has to begin", Within: 60})
		start := time.Now()
		a := <-l.Asked()
		if a.Owner != "ops" || a.Reason != "the backup has to begin" || a.Within != time.Minute || time.Since(start) > 10*time.Second {
			t.Errorf("asked %+v after %v", a, time.Since(start))
		}
		time.Sleep(time.Minute)
		select {
		case a := <-l.Asked():
			t.Errorf("told twice: %+v", a)
		default:
		}
		if err := l.Unlock(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestUnlockWithAnEndedContext(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		l := b.lock(b.client(), "x")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_ = l.Unlock(ctx)
		synctest.Wait()
		if b.server.holder("x") != 0 {
			t.Error("it was not released")
		}
		if err := l.Unlock(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestUnlockWhoseAnswerIsLost(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		l := b.lock(b.client(), "x")
		first := true
		b.net.set(func(string, *http.Request) fault {
			f := fault{lost: first}
			first = false
			return f
		})
		if err := l.Unlock(t.Context()); err != nil {
			t.Errorf("the repeated release found nothing, and that is what it should find: %v", err)
		}
	})
}

func TestUnlockNobodyHears(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		l := b.lock(b.client(), "x")
		b.net.set(func(string, *http.Request) fault { return fault{blackHole: true} })
		start := time.Now()
		wantErr(t, l.Unlock(t.Context()), ErrUnknown)
		if d := time.Since(start); d != giveBackFor {
			t.Errorf("it was tried for %v", d)
		}
	})
}

func TestClose(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		c := b.client()
		l := b.lock(c, "x")
		waits := make(chan error, 1)
		go func() {
			_, err := c.Lock(context.Background(), "x")
			waits <- err
		}()
		time.Sleep(time.Second)
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		wantErr(t, <-waits, ErrClosed)
		wantErr(t, l.Err(), ErrClosed)
		wantErr(t, context.Cause(l.Context()), ErrClosed)
		if !isClosed(l.Lost()) || l.Remaining() != 0 {
			t.Error("the lease is believed in after Close")
		}
		if b.server.holder("x") != l.Token() || b.server.waiters("x") != 0 {
			t.Error("Close releases nothing, and gives up places")
		}
		wantErr(t, l.Unlock(t.Context()), ErrClosed)
		_, err := c.TryLock(t.Context(), "y")
		wantErr(t, err, ErrClosed)
	})
}

func TestWith(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		type key struct{}
		l, err := b.client().Lock(context.WithValue(t.Context(), key{}, "value"), "x")
		if err != nil {
			t.Fatal(err)
		}
		if l.Context().Value(key{}) != "value" {
			t.Error("the context has lost its values")
		}
		outer, stop := context.WithCancel(t.Context())
		ctx, cancel := l.With(outer)
		defer cancel()
		stop()
		<-ctx.Done()
		ctx, cancel = l.With(t.Context())
		defer cancel()
		b.server.breakHold("x")
		<-ctx.Done()
		wantErr(t, context.Cause(ctx), ErrLost)
		_ = l.Unlock(t.Context())
	})
}

func TestMarginMustLeaveSomething(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		_, err := b.client(WithMargin(time.Second)).Lock(t.Context(), "x", TTL(1500*time.Millisecond))
		wantErr(t, err, ErrRefused)
		time.Sleep(time.Second)
		if b.server.holder("x") != 0 {
			t.Error("what cannot be used is held")
		}
		l := b.lock(b.client(WithMargin(0)), "x", TTL(10*time.Second))
		if d := l.Remaining(); d != 9900*time.Millisecond {
			t.Errorf("%v remain", d)
		}
		_ = l.Unlock(t.Context())
	})
}

// The grant comes and its time passes while the waiting client is cut off. It goes on with a new key.
func TestGrantExpiresUnheard(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		first := b.lock(b.clientOf([]string{"http://z"}), "x")
		time.AfterFunc(5500*time.Millisecond, func() { _ = first.Unlock(context.Background()) })
		start := time.Now()
		b.net.set(func(host string, _ *http.Request) fault {
			d := time.Since(start)
			cut := host != "z" && 3*time.Second < d && d < 20*time.Second
			return fault{refused: cut && d > 5*time.Second, muted: cut}
		})
		l := b.lock(b.client(WithPatience(time.Minute)), "x", TTL(5*time.Second))
		if l.Token() != 3 || b.server.holder("x") != 3 || l.Remaining() < 4*time.Second {
			t.Errorf("got %v with %v", l, l.Remaining())
		}
		_ = l.Unlock(t.Context())
	})
}

// Close at any moment, from any goroutine, ends everything.
func TestCloseInTheMiddle(t *testing.T) {
	for i := range 20 {
		inBubble(t, func(t *testing.T, b *bed) {
			b.net.set(func(string, *http.Request) fault {
				return fault{there: 3 * time.Millisecond, back: 4 * time.Millisecond}
			})
			c := b.client()
			users := newGroup()
			for u := range 8 {
				users.goes(func() {
					for c.Do(context.Background(), []string{"x", "y"}[u%2], func(ctx context.Context, _ *Lease) error {
						_ = sleep(ctx, 20*time.Millisecond)
						return nil
					}) == nil {
					}
				})
			}
			time.Sleep(time.Duration(i*17) * time.Millisecond)
			for range 2 {
				if err := c.Close(); err != nil {
					t.Error(err)
				}
			}
			users.wait()
			if n := b.server.waiters("x") + b.server.waiters("y"); n != 0 {
				t.Errorf("%d places are left", n)
			}
		})
	}
}

func TestHandOverNobodyHearsOf(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		l := b.lock(b.client(), "x")
		b.net.set(func(_ string, r *http.Request) fault {
			if !strings.HasSuffix(r.URL.Path, "/handover") {
				return fault{}
			}
			b.server.serve(t.Context(), http.MethodDelete, "/v1/locks/x", l.Key(), nil) // the successor has it
			return fault{lost: true}
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		wantErr(t, l.HandOver(ctx, "next"), ErrUnknown)
		time.Sleep(maxBackoff * 3 / 2) // less than until the next renewal
		wantErr(t, l.Err(), ErrLost)
	})
}
