package peer

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// The tests of this file run in virtual time.

// relay is a Network between a and b that can swallow all that is sent, in both directions or in one, as a cut cable
// does.
type relay struct {
	memory
	mu   sync.Mutex // guards lose
	lose map[string]bool
}

func (r *relay) losing(direction string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lose[direction]
}

func (r *relay) cut(directions ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lose = map[string]bool{}
	for _, d := range directions {
		r.lose[d] = true
	}
}

func (r *relay) Dial(ctx context.Context, addr string) (net.Conn, error) {
	far, err := r.memory.Dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	near, mine := net.Pipe()
	go r.pump(far, mine, "there")
	go r.pump(mine, far, "back")
	return near, nil
}

// pump passes on data and the end of the connection, or neither.
func (r *relay) pump(to, from net.Conn, direction string) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		switch {
		case r.losing(direction) && err == nil:
		case err != nil:
			if !r.losing(direction) {
				_ = to.Close()
			}
			return
		default:
			if _, err := to.Write(buf[:n]); err != nil {
				_ = from.Close()
				return
			}
		}
	}
}

// pair starts n1 and n2 in a bubble, on one network.
func pair(t *testing.T, network Network, handle func(context.Context, Identity, []byte) ([]byte, error)) (a, b *Peer) {
	t.Helper()
	on := func(addr string) func(*Config) {
		return func(c *Config) { c.Network, c.Listen, c.Handle = network, addr, handle }
	}
	return start(t, "n1", on("n1")), start(t, "n2", on("n2"))
}

func TestHalfOpenIsNoticed(t *testing.T) {
	for _, directions := range [][]string{{"there", "back"}, {"there"}, {"back"}} {
		synctest.Test(t, func(t *testing.T) {
			r := &relay{}
			told := make(chan time.Time, 1)
			a, b := pair(t, r, func(ctx context.Context, _ Identity, _ []byte) ([]byte, error) {
				<-ctx.Done()
				told <- time.Now()
				return nil, ctx.Err()
			})
			lost := make(chan error, 1)
			go func() { _, err := a.Call(context.Background(), b.Addr(), nil); lost <- err }()
			time.Sleep(10 * time.Minute) // a long call on a good connection is not cut
			select {
			case err := <-lost:
				t.Fatalf("a good connection ended: %v", err)
			default:
			}
			r.cut(directions...)
			cut := time.Now()
			if err := <-lost; !errors.Is(err, ErrBroken) {
				t.Errorf("cut %v: %v", directions, err)
			}
			within := time.Since(cut)
			if d := (<-told).Sub(cut); d > within {
				within = d
			}
			if within > deathTime+beatEvery {
				t.Errorf("cut %v: noticed after %v", directions, within)
			}
			r.cut()
			_ = a.Close()
			_ = b.Close()
			synctest.Wait()
			time.Sleep(time.Minute) // the pumps see the ends
		})
	}
}

func TestIdleConnectionEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pair(t, &memory{}, echo)
		mustCall(t, a, b.Addr(), "x")
		time.Sleep(idleTimeout - 2*time.Second)
		if a.Stats().Open != 1 {
			t.Error("closed too early")
		}
		time.Sleep(5 * time.Second)
		if n := a.Stats().Open + b.Stats().Open; n != 0 {
			t.Errorf("%d ends are open", n)
		}
		if mustCall(t, a, b.Addr(), "y") != "y" {
			t.Error("no reconnect")
		}
		_ = a.Close()
		_ = b.Close()
	})
}

func TestSilentStrangerIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{}
		a, b := pair(t, m, echo)
		for _, sent := range []string{"", magic[:3], magic + "\x01\x01\x02\x00\x00\x20"} {
			began := time.Now()
			c, err := m.Dial(context.Background(), b.Addr())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(c, sent); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Read(make([]byte, 1)); err == nil {
				t.Error("a stranger is answered")
			}
			if d := time.Since(began); d != handshakeTimeout {
				t.Errorf("dropped after %v", d)
			}
		}
		synctest.Wait()
		if n := b.Stats().Strangers; n != 3 {
			t.Errorf("%d strangers", n)
		}
		_ = a.Close()
		_ = b.Close()
	})
}

func TestSilentAcceptorIsUnreachable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{}
		a, b := pair(t, m, echo)
		l, _ := m.Listen("silent")
		go func() {
			for {
				if _, err := l.Accept(); err != nil {
					return
				}
			}
		}()
		began := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err := a.Call(ctx, "silent", nil)
		if !errors.Is(err, ErrUnreachable) || !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		if _, err := a.Call(context.Background(), "silent", nil); !errors.Is(err, ErrUnreachable) {
			t.Error(err)
		}
		if d := time.Since(began); d != handshakeTimeout {
			t.Errorf("given up after %v", d)
		}
		_ = l.Close()
		_ = a.Close()
		_ = b.Close()
	})
}

func TestAttemptsGrowRare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pair(t, &memory{}, echo)
		for range 10_000 {
			if _, err := a.Call(context.Background(), "nobody", nil); !errors.Is(err, errNobody) {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
		}
		if n := a.Stats().DialFailed; n < 15 || n > 40 {
			t.Errorf("%d attempts in 10 s", n)
		}
		_ = a.Close()
		_ = b.Close()
	})
}

func TestRaftConnectionNobodyTakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pair(t, &memory{}, echo)
		c, err := a.RaftLayer().Dial("n2", time.Second)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if _, err := c.Read(make([]byte, 1)); err == nil || time.Since(began) != raftAcceptTimeout {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		_ = c.Close()
		_ = a.Close()
		_ = b.Close()
	})
}

func TestGateKeepsOrderAndBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(2, 100)
		enter := func(n int) chan error {
			in := make(chan error, 1)
			go func() { in <- g.enter(context.Background(), n) }()
			synctest.Wait()
			return in
		}
		waits := func(in chan error) bool { synctest.Wait(); return len(in) == 0 }
		first := enter(60)
		ctx, cancel := context.WithCancel(context.Background())
		gone := make(chan error, 1)
		go func() { gone <- g.enter(ctx, 50) }()
		synctest.Wait()
		small := enter(10)
		if waits(first) || !waits(gone) || !waits(small) {
			t.Error("the small one must stand behind the big one")
		}
		cancel()
		if err := <-gone; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		third := enter(0)
		if waits(small) || !waits(third) {
			t.Error("two are let in, not more")
		}
		g.leave(60)
		if waits(third) {
			t.Error("the third is not let in")
		}
		g.leave(10)
		g.leave(0)
		if g.calls != 2 || g.bytes != 100 {
			t.Errorf("%d calls, %d bytes are free", g.calls, g.bytes)
		}
	})
}

// A caller that reads no answers keeps its room only until its connection ends.
func TestUnreadAnswersGiveBackTheirRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mine, yours := net.Pipe()
		p := newPeer(Config{Self: func() Identity { return ident("n2") }, Handle: echo})
		c := p.track(yours, false)
		c.greeted(ident("n1"), Call)
		done := make(chan struct{})
		go func() { p.serve(c); close(done) }()
		for id := range byte(5) {
			if _, err := mine.Write([]byte{frameRequest, 0, 0, 0, 0, 0, 0, 0, id, 0, 0, 0, 1, 'x'}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait() // answered as far as can be: the first blocks the writer
		}
		if p.busy.calls == totalCalls {
			t.Error("no answer is waiting")
		}
		_ = mine.Close()
		<-done
		if p.busy.calls != totalCalls || p.busy.bytes != totalBytes {
			t.Errorf("lost: %d calls, %d bytes", totalCalls-p.busy.calls, totalBytes-p.busy.bytes)
		}
		p.cancel()
	})
}

func TestSilentStrangersFromOneHostAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{}
		a, b := pair(t, m, echo)
		for range maxHandshakeHost {
			if _, err := m.Dial(context.Background(), b.Addr()); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		began := time.Now()
		c, err := m.Dial(context.Background(), b.Addr())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); err == nil || time.Since(began) != 0 {
			t.Errorf("one too many is dropped after %v: %v", time.Since(began), err)
		}
		time.Sleep(handshakeTimeout)
		synctest.Wait()
		if s := b.Stats(); s.Limited != 1 || s.Strangers != maxHandshakeHost || s.Open != 0 {
			t.Errorf("%+v", s)
		}
		if mustCall(t, a, b.Addr(), "x") != "x" {
			t.Error("the peer does not get in afterwards")
		}
		_ = a.Close()
		_ = b.Close()
	})
}
