package node

import (
	"bytes"
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

// gate is an observer that can hold up the log, as a slow disk does.
type gate struct{ hold chan chan struct{} }

func (g *gate) Applied([]*command.Command, []locktable.Outcome, []locktable.Event) {
	select {
	case open := <-g.hold:
		<-open
	default:
	}
}

func (*gate) Committed(int, time.Duration) {}

// openGated starts a node whose log stops after the next entry when close is called, and goes on when open is called.
func openGated(t *testing.T) (n *Node, shut, open func()) {
	g := &gate{hold: make(chan chan struct{}, 1)}
	n, err := Open(t.Context(), Config{Observer: g, Fatal: func(err error) { t.Errorf("fatal: %v", err) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	held := make(chan struct{})
	shut = func() {
		g.hold <- held
		go func() { _, _ = n.Propose(t.Context(), command.FromPoll(&command.Poll{})) }()
		synctest.Wait()
	}
	return n, shut, func() { close(held) }
}

type answer struct {
	out locktable.Outcome
	err error
}

// acquireLater acquires with a wait in a goroutine of its own and returns when it is under way.
func acquireLater(ctx context.Context, n *Node, key string) <-chan answer {
	c := make(chan answer, 1)
	go func() {
		o, err := n.Acquire(ctx, acquireCmd("db", key, time.Minute), Slice{})
		c <- answer{o, err}
	}()
	synctest.Wait()
	return c
}

// receive returns what comes from c. It has to come within two minutes, which in a bubble are virtual: there, a node goes on
// with its ticks for ever, so that who waits for nothing would be noticed by nobody.
func receive[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(2 * time.Minute):
		t.Fatal("nothing came within two minutes")
		panic("unreachable")
	}
}

func unanswered(t *testing.T, c <-chan answer) {
	t.Helper()
	synctest.Wait()
	select {
	case a := <-c:
		t.Errorf("answered with code %d, token %d, error %v; should still wait", a.out.Code, a.out.Token, a.err)
	default:
	}
}

// S2: k's connection breaks while the log is slow and the lock is about to be granted to it; its client comes back at
// once with the same key. The grant to the first place, which is taken back, must not be told to the second.
func TestGrantOfAnEarlierPlaceIsNotTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, shut, open := openGated(t)
		mustAcquire(t, n, acquireCmd("db", "h", 0), locktable.Granted)
		ctx, leave := context.WithCancel(t.Context())
		first := acquireLater(ctx, n, "k")
		other := acquireLater(t.Context(), n, "x")
		shut()
		go func() {
			_, _ = n.Propose(t.Context(), command.FromRelease(&command.Release{Name: "db", Key: keyOf("h")}))
		}()
		synctest.Wait()
		leave()
		synctest.Wait()
		second := acquireLater(t.Context(), n, "k")
		open()
		receive(t, first)
		if a := receive(t, other); a.err != nil || a.out.Code != locktable.Granted {
			t.Fatalf("x: code %d, error %v", a.out.Code, a.err)
		}
		unanswered(t, second)
		mustRelease(t, n, "db", "x")
		if a := receive(t, second); a.err != nil || a.out.Code != locktable.Granted {
			t.Errorf("k: code %d, error %v", a.out.Code, a.err)
		}
	})
}

// The same with the end of the earlier place.
func TestCancellationOfAnEarlierPlaceIsNotTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, shut, open := openGated(t)
		mustAcquire(t, n, acquireCmd("db", "h", 0), locktable.Granted)
		ctx, leave := context.WithCancel(t.Context())
		first := acquireLater(ctx, n, "k")
		shut()
		leave()
		synctest.Wait()
		second := acquireLater(t.Context(), n, "k")
		open()
		receive(t, first)
		unanswered(t, second)
		mustRelease(t, n, "db", "h")
		if a := receive(t, second); a.err != nil || a.out.Code != locktable.Granted {
			t.Errorf("k: code %d, error %v", a.out.Code, a.err)
		}
	})
}

// Of two connections that wait with one key, the newer has the place and the older is sent away. So whatever the newer
// one takes back was told to nobody else.
func TestNewerConnectionHasThePlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := open(t, "")
		mustAcquire(t, n, acquireCmd("db", "h", 0), locktable.Granted)
		older := acquireLater(t.Context(), n, "k")
		newer := acquireLater(t.Context(), n, "k")
		if a := receive(t, older); a.err != nil || a.out.Code != locktable.Cancelled {
			t.Errorf("the older connection: code %d, error %v", a.out.Code, a.err)
		}
		unanswered(t, newer)
		mustRelease(t, n, "db", "h")
		if a := receive(t, newer); a.err != nil || a.out.Code != locktable.Granted {
			t.Errorf("the newer connection: code %d, error %v", a.out.Code, a.err)
		}
	})
}

// A node that stops does not wait until a large snapshot is written.
func TestCloseBreaksOffASnapshot(t *testing.T) {
	stop := make(chan struct{})
	f := newFSM(Config{}.withDefaults(), newWaiters(), newFates(), stop)
	snap, err := f.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	close(stop)
	sink := &countingSink{}
	if err := snap.Persist(sink); err == nil || !sink.cancelled || sink.closed {
		t.Errorf("error %v, sink %+v", err, sink)
	}
	snap.Release()
}

type countingSink struct {
	bytes             int
	closed, cancelled bool
}

func (s *countingSink) Write(p []byte) (int, error) { s.bytes += len(p); return len(p), nil }
func (s *countingSink) Close() error                { s.closed = true; return nil }
func (s *countingSink) ID() string                  { return "test" }
func (s *countingSink) Cancel() error               { s.cancelled = true; return nil }

// The log is cut by size, and by the number of its entries, since each takes time at the next start.
func TestWhenASnapshotIsWanted(t *testing.T) {
	n := open(t, "")
	for _, c := range []struct {
		bytes, entries int64
		want           bool
	}{
		{0, 0, false},
		{defaultSnapshotBytes - 1, minSnapshotEntries - 1, false},
		{defaultSnapshotBytes, 0, true},
		{0, minSnapshotEntries + 1, true},
	} {
		n.fsm.logBytes.Store(c.bytes)
		n.fsm.logEntries.Store(c.entries)
		if got := n.wantsSnapshot(); got != c.want {
			t.Errorf("%d bytes, %d entries: %v", c.bytes, c.entries, got)
		}
	}
}

// After a snapshot was installed there are no events: whoever has a place is told what the new table says of it.
func TestParkedClientsLearnFromASnapshot(t *testing.T) {
	table := locktable.New(locktable.DefaultSettings())
	acquire := func(lock, key string, attachment uint64) {
		a := acquireCmd(lock, key, time.Minute)
		a.Attachment = attachment
		table.Apply(1, []*command.Command{command.FromAcquire(a)})
	}
	acquire("a", "granted", 1)
	acquire("b", "holder", 2)
	acquire("b", "waiting", 3)
	acquire("b", "superseded", 7) // its client has come back over 7, and 8 is the connection of before
	acquire("c", "overtaken", 9)
	acquire("d", "confirmed", 11) // by a renewal, so that it has no attachment any more
	table.Apply(1, []*command.Command{command.FromRenew(&command.Renew{Name: "d", Key: keyOf("confirmed")})})
	w := newWaiters()
	view := func(f func(*locktable.Table)) { f(table) }
	want := map[string]locktable.Code{
		"granted": locktable.Granted, "waiting": 0, "lost": locktable.Cancelled, "early": 0, "late": locktable.Cancelled,
		"superseded": locktable.Cancelled, "overtaken": locktable.Cancelled, "confirmed": locktable.Granted,
	}
	parked := map[string]*waiter{}
	for name, attachment := range map[string]uint64{
		"granted": 1, "waiting": 3, "lost": 4, "early": 5, "late": 6, "superseded": 8, "overtaken": 10, "confirmed": 12,
	} {
		key, _ := locktable.ParseKey(keyOf(name))
		parked[name] = newWaiter(key, attachment, "")
		w.park(parked[name])
	}
	for _, name := range []string{"granted", "waiting", "lost", "superseded", "overtaken", "confirmed"} {
		w.queued(parked[name], 1, view)
	}
	w.queued(parked["early"], 2, view) // the table has not got as far
	w.recheck(table)
	w.queued(parked["late"], 1, view) // got its place before, and missed what came of it
	for name, p := range parked {
		var got locktable.Code
		select {
		case o := <-p.ended:
			got = o.Code
		default:
		}
		if got != want[name] {
			t.Errorf("%s: code %d, want %d", name, got, want[name])
		}
	}
}

// The same, by the way that a snapshot takes.
func TestInstallingASnapshotTellsParkedClients(t *testing.T) {
	c := Config{}.withDefaults()
	leads := newFSM(c, newWaiters(), newFates(), nil)
	a := acquireCmd("a", "k", time.Minute)
	a.Attachment = 1
	leads.table.Apply(1, []*command.Command{command.FromAcquire(a)})
	snap, err := leads.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	sink := &keepingSink{}
	if err := snap.Persist(sink); err != nil {
		t.Fatal(err)
	}
	snap.Release()
	follows := newFSM(c, newWaiters(), newFates(), nil)
	key, _ := locktable.ParseKey(keyOf("k"))
	parked := newWaiter(key, 1, "")
	follows.waiters.park(parked)
	follows.waiters.queued(parked, 1, follows.view)
	if err := follows.Restore(io.NopCloser(&sink.data)); err != nil {
		t.Fatal(err)
	}
	select {
	case o := <-parked.ended:
		if o.Code != locktable.Granted || o.Token != 1 {
			t.Errorf("code %d, token %d", o.Code, o.Token)
		}
	default:
		t.Error("nobody has told it")
	}
}

// keepingSink keeps what is written.
type keepingSink struct {
	countingSink
	data bytes.Buffer
}

func (s *keepingSink) Write(p []byte) (int, error) { return s.data.Write(p) }
