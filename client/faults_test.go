package client

import (
	"context"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"
)

// T23: an endpoint takes connections and never answers. It is left, and remembered.
func TestSilentEndpoint(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		asked := map[string]int{}
		b.net.set(func(host string, _ *http.Request) fault {
			asked[host]++
			return fault{blackHole: host == "a"}
		})
		c := b.client()
		start := time.Now()
		l := b.lock(c, "x", TTL(10*time.Second))
		if d := time.Since(start); d != DefaultTryTimeout+minSlice {
			t.Errorf("it took %v", d)
		}
		if left := l.Remaining(); left != 9400*time.Millisecond {
			t.Errorf("the time that the silent endpoint took counts: %v remain", left)
		}
		start = time.Now()
		other := b.lock(c, "y")
		if d := time.Since(start); d != 0 {
			t.Errorf("the next request took %v", d)
		}
		time.Sleep(20 * time.Second)
		if l.Err() != nil || other.Err() != nil {
			t.Error(l.Err(), other.Err())
		}
		if asked["a"] != 1 {
			t.Errorf("the silent endpoint was asked %d times, the others %v", asked["a"], asked)
		}
		if err := l.Unlock(t.Context()); err != nil {
			t.Error(err)
		}
		if err := other.Unlock(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// The place in the queue is kept when the endpoint at which the client waits falls silent.
func TestEndpointFallsSilentWhileWaiting(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		holder, waiter, last := b.client(), b.client(), b.client()
		l := b.lock(holder, "x")
		got := make(chan *Lease, 2)
		wait := func(c *Client) {
			w, err := c.Lock(context.Background(), "x")
			if err != nil {
				t.Error(err)
			}
			got <- w
		}
		go wait(waiter)
		time.Sleep(time.Second)
		go wait(last)
		time.Sleep(time.Second)
		b.net.set(func(host string, req *http.Request) fault { return fault{muted: host == "a", blackHole: host == "a"} })
		time.Sleep(time.Minute)
		if err := l.Unlock(t.Context()); err != nil {
			t.Error(err)
		}
		first := <-got
		if first.client != waiter {
			t.Error("the place was lost")
		}
		_ = first.Unlock(t.Context())
		_ = (<-got).Unlock(t.Context())
	})
}

func TestRefusedEverywhere(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.net.set(func(string, *http.Request) fault { return fault{refused: true} })
		start := time.Now()
		_, err := b.client(WithPatience(5*time.Second)).TryLock(t.Context(), "x")
		wantErr(t, err, ErrUnavailable)
		wantNot(t, err, ErrUnknown, context.DeadlineExceeded)
		if d := time.Since(start); d != 5*time.Second {
			t.Errorf("it was tried for %v", d)
		}
	})
}

func TestUnavailableThenBack(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		no := problemAnswer(503, "unavailable")
		start := time.Now()
		tries := 0
		b.net.set(func(string, *http.Request) fault {
			if time.Since(start) < 4*time.Second {
				tries++
				return fault{answer: &no}
			}
			return fault{}
		})
		l := b.lock(b.client(), "x")
		if d := time.Since(start); d > 6*time.Second {
			t.Errorf("it took %v", d)
		}
		if tries > 4*3+3 { // Retry-After is 1 s, and there are three endpoints
			t.Errorf("%d tries in 4 s", tries)
		}
		_ = l.Unlock(t.Context())
	})
}

// T7: the server grants, and nobody hears of it.
func TestGrantNobodyHearsOf(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		down := true
		b.net.set(func(_ string, req *http.Request) fault { return fault{lost: down && req.Method == http.MethodPost} })
		_, err := b.client().TryLock(t.Context(), "x", TTL(time.Hour))
		wantErr(t, err, ErrUnknown)
		wantNot(t, err, ErrUnavailable, ErrHeld)
		time.Sleep(giveBackFor)
		if b.server.holder("x") != 0 {
			t.Error("the ghost holds the lock")
		}
	})
}

// T8: a repetition is the same request, through whatever endpoint; copies of it do no harm.
func TestLostAnswersAndCopies(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		answers := 0
		b.net.set(func(_ string, req *http.Request) fault {
			answers++
			return fault{lost: answers <= 2, again: 5 * time.Second}
		})
		c := b.client()
		l := b.lock(c, "x", TTL(20*time.Second))
		if l.Token() != 1 {
			t.Errorf("token %d after lost answers", l.Token())
		}
		time.Sleep(time.Minute)
		if err := l.Unlock(t.Context()); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute)
		if b.server.holder("x") != 0 {
			t.Error("a copy of the acquire has taken the lock")
		}
		if l = b.lock(c, "x"); l.Token() != 2 {
			t.Errorf("token %d: somebody had the lock in between", l.Token())
		}
		_ = l.Unlock(t.Context())
	})
}

// T4: every answer is late. The client must never believe what the server does not hold.
func TestLateAnswers(t *testing.T) {
	for _, late := range []float64{0.3, 0.5, 0.9, 0.98, 1.2} {
		inBubble(t, func(t *testing.T, b *bed) {
			ttl := 10 * time.Second
			b.server.rate = 1.0099
			start := time.Now()
			c, other := b.client(WithTryTimeout(15*time.Second)), b.clientOf([]string{"http://z"})
			contend := make(chan struct{})
			go func() { // somebody takes the lock as soon as it is free
				defer close(contend)
				time.Sleep(ttl / 2)
				w, err := other.Lock(context.Background(), "x", Wait(5*time.Minute))
				if err == nil {
					err = w.Unlock(context.Background())
				}
				_ = err
			}()
			b.net.set(func(host string, _ *http.Request) fault {
				if host == "z" {
					return fault{}
				}
				return fault{back: time.Duration(late * float64(ttl)), blackHole: time.Now().After(start.Add(25 * time.Second))}
			})
			l, err := c.Lock(t.Context(), "x", TTL(ttl), Wait(5*time.Minute))
			if err != nil {
				t.Logf("late by %v: %v", late, err)
			}
			for end := time.Now().Add(time.Minute); l != nil && l.Err() == nil && time.Now().Before(end); {
				if held := b.server.holder("x"); held != l.Token() {
					t.Fatalf("late by %v: believes in token %d for %v yet, but the server holds %d", late, l.Token(), l.Remaining(), held)
				}
				time.Sleep(10 * time.Millisecond)
			}
			if l != nil {
				_ = l.Unlock(t.Context())
			}
			<-contend
		})
	}
}

// S2: under faults of all kinds, no two clients believe in the same lock at one moment, and the server holds it for the one that
// does.
func TestNoOverlaps(t *testing.T) {
	for seed := range uint64(12) {
		inBubble(t, func(t *testing.T, b *bed) { overlaps(t, b, seed) })
		if t.Failed() {
			t.Fatalf("with seed %d", seed)
		}
	}
}

func overlaps(t *testing.T, b *bed, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	b.server.rate = 0.991 + 0.018*rnd.Float64()
	badly := rnd.Float64() * 0.5
	pauses := make([]*rand.Rand, 4)
	for i := range pauses {
		pauses[i] = rand.New(rand.NewPCG(seed, rnd.Uint64()))
	}
	downUntil := map[string]time.Time{}
	b.net.set(func(host string, _ *http.Request) fault {
		if rnd.Float64() < 0.01 { // all at once
			until := time.Now().Add(time.Duration(rnd.Int64N(int64(15 * time.Second))))
			downUntil["a"], downUntil["b"], downUntil["c"] = until, until, until
		}
		if rnd.Float64() < 0.02 {
			downUntil[host] = time.Now().Add(time.Duration(rnd.Int64N(int64(15 * time.Second))))
		}
		f := fault{
			there: time.Duration(rnd.Int64N(int64(20 * time.Millisecond))), back: time.Duration(rnd.Int64N(int64(20 * time.Millisecond))),
			blackHole: time.Now().Before(downUntil[host]),
		}
		if rnd.Float64() > badly {
			return f
		}
		switch rnd.IntN(6) {
		case 0:
			f.refused = true
		case 1:
			f.lost = true
		case 2:
			f.muted = true
		case 3:
			f.back += time.Duration(rnd.Int64N(int64(6 * time.Second)))
		case 4:
			f.there += time.Duration(rnd.Int64N(int64(6 * time.Second)))
		case 5:
			f.again = time.Duration(rnd.Int64N(int64(20 * time.Second)))
		}
		return f
	})
	j := &judge{t: t, server: b.server, clients: newGroup()}
	until := time.Now().Add(5 * time.Minute)
	for _, pause := range pauses {
		c := b.client(WithPatience(30 * time.Second))
		j.clients.goes(func() {
			for time.Now().Before(until) {
				j.work(c, pause)
			}
		})
	}
	j.clients.wait()
	if j.grants < 5 {
		t.Errorf("only %d grants: nothing was shown", j.grants)
	}
}

// judge watches what clients believe.
type judge struct {
	t       *testing.T
	server  *fakeServer
	clients *group
	inside  *Lease // who believes; guarded by clients.mu
	grants  int    // guarded by clients.mu
	newest  uint64 // guarded by clients.mu
}

// work takes the lock once, and works under it until it is lost or done.
func (j *judge) work(c *Client, rnd *rand.Rand) {
	l, err := c.Lock(context.Background(), "x", TTL(5*time.Second), Wait(time.Minute))
	if err != nil {
		return
	}
	j.enter(l)
	done := time.After(time.Duration(rnd.Int64N(int64(20 * time.Second))))
	for over := false; !over; {
		j.mustHold(l)
		select {
		case <-done:
			over = true
		case <-l.Context().Done():
			over = true
		case <-time.After(100 * time.Millisecond):
		}
	}
	j.leave(l)
	_ = l.Unlock(context.Background())
}

func (j *judge) enter(l *Lease) {
	j.clients.mu.Lock()
	defer j.clients.mu.Unlock()
	if j.inside != nil && j.inside.Err() == nil {
		j.t.Errorf("%v begins while %v is believed in for %v", l, j.inside, j.inside.Remaining())
	}
	if l.Token() <= j.newest {
		j.t.Errorf("token %d after %d", l.Token(), j.newest)
	}
	j.inside, j.newest = l, l.Token()
	j.grants++
}

func (j *judge) leave(l *Lease) {
	j.clients.mu.Lock()
	defer j.clients.mu.Unlock()
	if j.inside == l {
		j.inside = nil
	}
}

func (j *judge) mustHold(l *Lease) {
	if l.Err() != nil {
		return
	}
	if held := j.server.holder("x"); held != l.Token() {
		j.t.Errorf("%v is believed in for %v, but the server holds token %d", l, l.Remaining(), held)
	}
}

// Renewals are not answered by some endpoints; the lease lives on by the others.
func TestRenewalsOverBadEndpoints(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.net.set(func(host string, req *http.Request) fault {
			return fault{blackHole: host != "b" && strings.HasSuffix(req.URL.Path, "/renew")}
		})
		l := b.lock(b.client(), "x", TTL(3*time.Second))
		time.Sleep(10 * time.Minute)
		if l.Err() != nil {
			t.Error(l.Err())
		}
		_ = l.Unlock(t.Context())
	})
}

// With one endpoint whose connections hang for ever now and then, the next try gets through.
func TestOneEndpointThatHangs(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		n := 0
		b.net.set(func(string, *http.Request) fault {
			n++
			return fault{blackHole: n%3 != 0}
		})
		l := b.lock(b.clientOf([]string{"http://a"}), "x", TTL(5*time.Second))
		time.Sleep(10 * time.Minute)
		if l.Err() != nil {
			t.Error(l.Err())
		}
		_ = l.Unlock(t.Context())
	})
}
