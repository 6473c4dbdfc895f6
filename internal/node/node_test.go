package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
	"github.com/doubledutch-lock/doubledutch/internal/storage"
)

// open starts a node, volatile if dir is empty, and fails the test when the node gives up on itself.
func open(t *testing.T, dir string) *Node {
	t.Helper()
	n, err := Open(t.Context(), Config{Dir: dir, Fatal: func(err error) { t.Errorf("fatal: %v", err) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return n
}

func keyOf(s string) string { return s + strings.Repeat("0", locktable.KeyLen-len(s)) }

func acquireCmd(name, key string, wait time.Duration) *command.Acquire {
	return &command.Acquire{Name: name, Key: keyOf(key), Ttl: int64(30 * time.Second), Wait: int64(wait)}
}

func mustAcquire(t *testing.T, n *Node, a *command.Acquire, want locktable.Code) locktable.Outcome {
	t.Helper()
	o, err := n.Acquire(t.Context(), a, Slice{})
	if err != nil || o.Code != want {
		t.Fatalf("acquire: code %d (want %d), error %v", o.Code, want, err)
	}
	return o
}

func mustRelease(t *testing.T, n *Node, name, key string) {
	t.Helper()
	o, err := n.Propose(t.Context(), command.FromRelease(&command.Release{Name: name, Key: keyOf(key)}))
	if err != nil || o.Code != locktable.Released {
		t.Fatalf("release: code %d, error %v", o.Code, err)
	}
}

// waiting returns the number of keys in the queue of the lock.
func waiting(t *testing.T, n *Node, name string) (waiters int) {
	t.Helper()
	err := n.Read(t.Context(), func(tb *locktable.Table, _ locktable.Time) {
		i, _ := tb.Lock(name, 0)
		waiters = i.NumWaiters
	})
	if err != nil {
		t.Fatal(err)
	}
	return waiters
}

func TestReleaseWakesTheNextWaiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := open(t, "")
		first := mustAcquire(t, n, acquireCmd("db", "a", 0), locktable.Granted)
		mustAcquire(t, n, acquireCmd("db", "b", 0), locktable.Held)
		var got locktable.Outcome
		var wg sync.WaitGroup
		wg.Go(func() { got = mustAcquire(t, n, acquireCmd("db", "c", -1), locktable.Granted) })
		time.Sleep(10 * time.Second) // virtual
		synctest.Wait()
		released := time.Now()
		mustRelease(t, n, "db", "a")
		wg.Wait()
		if waited := time.Since(released); waited != 0 {
			t.Errorf("the waiter got the lock %v after the release", waited)
		}
		if got.Token != first.Token+1 || got.Waited != 10*time.Second {
			t.Errorf("granted with token %d after %v", got.Token, got.Waited)
		}
	})
}

func TestExpiryReachesTheWaiterWhenDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := open(t, "")
		mustAcquire(t, n, acquireCmd("db", "a", 0), locktable.Granted)
		start := time.Now()
		mustAcquire(t, n, acquireCmd("db", "b", time.Minute), locktable.Granted)
		if took := time.Since(start); took != 30*time.Second {
			t.Errorf("the hold of 30 s ended after %v", took)
		}
	})
}

func TestWaitRunsOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := open(t, "")
		mustAcquire(t, n, acquireCmd("db", "a", 0), locktable.Granted)
		start := time.Now()
		o := mustAcquire(t, n, acquireCmd("db", "b", 3*time.Second), locktable.Held)
		if took := time.Since(start); took != 3*time.Second || o.Waited != took {
			t.Errorf("the wait of 3 s took %v, said %v", took, o.Waited)
		}
		if o.Holder == nil || o.Holder.Holders != 1 {
			t.Errorf("holder = %+v", o.Holder)
		}
	})
}

func TestClientThatLeavesIsNeverGranted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := open(t, "")
		mustAcquire(t, n, acquireCmd("db", "a", 0), locktable.Granted)
		ctx, leave := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() {
			_, err := n.Acquire(ctx, acquireCmd("db", "b", -1), Slice{})
			ended <- err
		}()
		time.Sleep(45 * time.Second) // virtual: long past the grace, kept by polls; the hold of a expired, b has it
		synctest.Wait()
		if err := receive(t, ended); err != nil {
			t.Fatal(err)
		}
		go func() {
			_, err := n.Acquire(ctx, acquireCmd("db", "c", -1), Slice{})
			ended <- err
		}()
		synctest.Wait()
		if got := waiting(t, n, "db"); got != 1 {
			t.Fatalf("%d waiters, want 1", got)
		}
		leave()
		if err := receive(t, ended); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		synctest.Wait()
		if got := waiting(t, n, "db"); got != 0 {
			t.Errorf("%d waiters after the client left", got)
		}
		mustRelease(t, n, "db", "b")
		mustAcquire(t, n, acquireCmd("db", "d", 0), locktable.Granted)
	})
}

// A client that comes back over a new connection before the server has noticed that the old one is gone keeps its
// place.
func TestComingBackBeatsTheOldConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := open(t, "")
		mustAcquire(t, n, acquireCmd("db", "a", 0), locktable.Granted)
		ctx, leave := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = n.Acquire(ctx, acquireCmd("db", "b", -1), Slice{}) })
		synctest.Wait()
		var got locktable.Outcome
		wg.Go(func() { got = mustAcquire(t, n, acquireCmd("db", "b", -1), locktable.Granted) })
		synctest.Wait()
		leave()
		synctest.Wait()
		mustRelease(t, n, "db", "a")
		wg.Wait()
		if got.Token != 2 {
			t.Errorf("token %d", got.Token)
		}
	})
}

func TestPlacesOutliveTheGraceOnlyWhilePolled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := open(t, "")
		a := acquireCmd("db", "a", 0)
		a.Ttl = int64(time.Hour)
		mustAcquire(t, n, a, locktable.Granted)
		done := make(chan locktable.Code)
		go func() {
			o, _ := n.Acquire(t.Context(), acquireCmd("db", "b", 10*time.Minute), Slice{})
			done <- o.Code
		}()
		// A gateway that dies leaves this one behind.
		ghost := acquireCmd("db", "ghost", 10*time.Minute)
		if o, err := n.Propose(t.Context(), command.FromAcquire(ghost)); err != nil || o.Code != locktable.Waiting {
			t.Fatal(o, err)
		}
		time.Sleep(5 * time.Minute) // virtual
		synctest.Wait()
		if got := waiting(t, n, "db"); got != 1 {
			t.Errorf("%d waiters, want only the polled one", got)
		}
		mustRelease(t, n, "db", "a")
		if code := receive(t, done); code != locktable.Granted {
			t.Errorf("code %d", code)
		}
	})
}

// T15: the process is paused for longer than the grace, so that the first entry afterwards comes with the grace of all
// places over. Their clients are still connected and keep them.
func TestPlacesSurviveAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := open(t, "")
		a := acquireCmd("db", "a", 0)
		a.Ttl = int64(time.Hour)
		mustAcquire(t, n, a, locktable.Granted)
		done := make(chan locktable.Code)
		go func() {
			o, _ := n.Acquire(t.Context(), acquireCmd("db", "b", 10*time.Minute), Slice{})
			done <- o.Code
		}()
		synctest.Wait()
		// As if nothing had run for a minute: the clock of the leader goes on, and no entry has come.
		n.clock.mu.Lock()
		n.clock.office = n.clock.office.Add(-time.Minute)
		n.clock.mu.Unlock()
		mustRelease(t, n, "db", "a")
		if code := receive(t, done); code != locktable.Granted {
			t.Errorf("code %d", code)
		}
	})
}

func TestEverythingIsThereAfterARestart(t *testing.T) {
	dir := t.TempDir()
	n := open(t, dir)
	held := mustAcquire(t, n, acquireCmd("db", "a", 0), locktable.Granted)
	ended := make(chan error)
	go func() {
		_, err := n.Acquire(t.Context(), acquireCmd("db", "b", time.Hour), Slice{})
		ended <- err
	}()
	for waiting(t, n, "db") == 0 {
	}
	n.StopWaiting()
	if err := receive(t, ended); !errors.Is(err, ErrStopping) {
		t.Fatalf("the parked client was told %v", err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}

	n = open(t, dir)
	if got := waiting(t, n, "db"); got != 1 {
		t.Fatalf("%d waiters after the restart", got)
	}
	again := mustAcquire(t, n, acquireCmd("db", "a", 0), locktable.Granted)
	if again.Token != held.Token {
		t.Errorf("token %d, was %d", again.Token, held.Token)
	}
	mustRelease(t, n, "db", "a")
	if o := mustAcquire(t, n, acquireCmd("db", "b", time.Hour), locktable.Granted); o.Token != held.Token+1 {
		t.Errorf("token %d after %d", o.Token, held.Token)
	}
}

func TestRestartFromASnapshot(t *testing.T) {
	dir := t.TempDir()
	n := open(t, dir)
	for i := range 3000 {
		mustAcquire(t, n, acquireCmd(fmt.Sprint("lock", i), fmt.Sprint("k", i, "x"), 0), locktable.Granted)
		if i == 2000 {
			n.snapshot()
		}
	}
	var before, after [32]byte
	n.fsm.view(func(tb *locktable.Table) { before = tb.Hash() })
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	n = open(t, dir)
	n.fsm.view(func(tb *locktable.Table) { after = tb.Hash() })
	if before != after {
		t.Error("the state changed over the restart")
	}
}

func TestSecondNodeOnTheSameDirectoryIsRefused(t *testing.T) {
	dir := t.TempDir()
	open(t, dir)
	if _, err := Open(t.Context(), Config{Dir: dir}); !errors.Is(err, storage.ErrLocked) {
		t.Errorf("error %v", err)
	}
}

// T24: an entry that this version does not understand stops the node; it is never skipped.
func TestUnknownCommandIsFatal(t *testing.T) {
	fatal := make(chan error, 1)
	n, err := Open(t.Context(), Config{Fatal: func(err error) { fatal <- err }})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = n.Close() }()
	entry := []byte{
		0x08, 0x01, // version 1
		0x1a, 0x03, 0xfa, 0x07, 0x00, // one command, of kind 127
	}
	if err := n.raft.Apply(entry, 0).Error(); err != nil {
		t.Fatal(err)
	}
	if err := receive(t, fatal); !errors.Is(err, command.ErrNotUnderstood) || !strings.Contains(err.Error(), "kind") {
		t.Errorf("fatal error %v", err)
	}
}

// T2, T27: a reading of the clock that was taken in an earlier term must not end a lease that others granted since.
func TestReadingOfAnotherTermLeavesTheClockAlone(t *testing.T) {
	n := open(t, "")
	mustAcquire(t, n, acquireCmd("db", "a", 0), locktable.Granted)
	late := int64(n.fsm.now().Add(time.Hour))
	entry, err := command.Encode(command.NewEntry(n.raft.CurrentTerm()+1, late, nil))
	if err != nil {
		t.Fatal(err)
	}
	if err := n.raft.Apply(entry, 0).Error(); err != nil {
		t.Fatal(err)
	}
	mustAcquire(t, n, acquireCmd("db", "b", 0), locktable.Held)
}

func TestAnIdleNodeWritesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := open(t, "")
		before := n.raft.LastIndex()
		time.Sleep(time.Hour) // virtual
		if after := n.raft.LastIndex(); after != before {
			t.Errorf("%d entries while idle", after-before)
		}
		a := acquireCmd("db", "a", 0)
		a.Ttl = int64(10 * time.Second)
		mustAcquire(t, n, a, locktable.Granted)
		before = n.raft.LastIndex()
		time.Sleep(9500 * time.Millisecond) // virtual
		synctest.Wait()
		if ticks := n.raft.LastIndex() - before; ticks != 9 {
			t.Errorf("%d ticks in 9.5 s with something to expire, want one a second", ticks)
		}
	})
}

func TestSettingsAreReplicatedAndSurvive(t *testing.T) {
	dir := t.TempDir()
	s := locktable.DefaultSettings()
	s.MaxTtl = int64(time.Minute)
	n, err := Open(t.Context(), Config{Dir: dir, Settings: s})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	n = open(t, dir)
	a := acquireCmd("db", "a", 0)
	a.Ttl = int64(2 * time.Minute)
	mustAcquire(t, n, a, locktable.Invalid)
}

func TestMalformedCommandDoesNotSpoilItsBatch(t *testing.T) {
	n := open(t, "")
	bad := acquireCmd("a\xffb", "a", 0)
	if _, err := n.Acquire(t.Context(), bad, Slice{}); !errors.Is(err, ErrMalformed) {
		t.Errorf("error %v", err)
	}
	mustAcquire(t, n, acquireCmd("db", "a", 0), locktable.Granted)
}

func TestClosedNodeRefuses(t *testing.T) {
	n := open(t, "")
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := n.Acquire(context.Background(), acquireCmd("db", "a", 0), Slice{})
	if !errors.Is(err, ErrStopping) {
		t.Errorf("error %v", err)
	}
	if n.Status().Ready {
		t.Error("a closed node says that it is ready")
	}
}

func TestQueueOrderAndBounds(t *testing.T) {
	q := newQueue()
	var want []*proposal
	for range maxBatch + 10 {
		p := new(proposal)
		want = append(want, p)
		if err := q.put(p, len(want)); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.put(new(proposal), len(want)); !errors.Is(err, ErrOverloaded) {
		t.Errorf("error %v", err)
	}
	got := q.take(nil)
	if len(got) != maxBatch {
		t.Fatalf("a batch of %d", len(got))
	}
	got = append(got, q.take(nil)...)
	for i, p := range want {
		if got[i] != p {
			t.Fatalf("command %d out of order", i)
		}
	}
}

func TestKeysAreWellFormedAndDiffer(t *testing.T) {
	seen := make(map[string]bool)
	counts := make(map[rune]int)
	for range 20_000 {
		k := NewKey()
		if _, ok := locktable.ParseKey(k); !ok || seen[k] {
			t.Fatalf("key %q", k)
		}
		seen[k] = true
		for _, r := range k {
			counts[r]++
		}
	}
	// 640,000 characters, 10,323 of each expected; six standard deviations are about 600.
	for r, n := range counts {
		if n < 9700 || n > 10950 {
			t.Errorf("character %c came %d times", r, n)
		}
	}
	if len(counts) != 62 {
		t.Errorf("%d characters in use", len(counts))
	}
}

// S7, T31: what the node acknowledged is in the log files, not in a buffer of the process.
func TestAcknowledgedIsInTheFiles(t *testing.T) {
	dir := t.TempDir()
	n := open(t, dir)
	mustAcquire(t, n, acquireCmd("find-me-in-the-log", "a", 0), locktable.Granted)
	found := false
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		found = found || strings.Contains(string(data), "find-me-in-the-log")
		return err
	})
	if err != nil || !found {
		t.Errorf("found = %v, error %v", found, err)
	}
}

var _ raft.FSM = (*fsm)(nil)

// T19: while the disk hangs, callers are told after some seconds, later ones at once, and all is well when it goes on.
func TestCallersAreToldWhenTheLogStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue()
		s := newStall(q)
		stop := make(chan struct{})
		defer close(stop)
		go s.watch(stop)
		s.start(q.now())
		start := time.Now()
		<-s.stalled()
		if took := time.Since(start); took <= stallAfter || took > stallAfter+2*stallCheck {
			t.Errorf("noticed after %v", took)
		}
		s.end()
		time.Sleep(2 * stallCheck) // virtual
		select {
		case <-s.stalled():
			t.Error("still stalled")
		default:
		}
	})
}

// L1: whoever waits behind batches that each fail in time is told in time, too; and so is one whom nobody takes out of the queue, as
// while elections follow each other.
func TestStallCountsFromTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue()
		s := newStall(q)
		stop := make(chan struct{})
		defer close(stop)
		go s.watch(stop)
		start := time.Now()
		s.start(q.now())
		if err := q.put(&proposal{cmd: command.FromPoll(&command.Poll{}), done: make(chan struct{}, 1)}, 10); err != nil {
			t.Fatal(err)
		}
		told := s.stalled()
		time.Sleep(stallAfter - time.Second) // virtual
		s.end()                              // the batch before it has failed
		s.start(q.take(nil)[0].at)
		<-told
		if took := time.Since(start); took > stallAfter+2*stallCheck {
			t.Errorf("told after %v", took)
		}
	})
}
