//go:build linux && !race

package counts

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
	"github.com/doubledutch-lock/doubledutch/internal/node"
	"github.com/doubledutch-lock/doubledutch/test/rig"
)

// logged is a node whose log entries are counted. It lives in a bubble of synctest, where no tick comes unless a test sleeps.
type logged struct {
	*node.Node
	t *testing.T

	mu      sync.Mutex    // guards what follows
	entries int           // that were applied
	bytes   int           // of them
	busy    chan struct{} // not nil: the log stands still until it is closed
}

func openLogged(t *testing.T) *logged {
	t.Helper()
	l := &logged{t: t}
	var err error
	l.Node, err = node.Open(t.Context(), node.Config{Simulation: &node.Simulation{Applied: l.applied}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func (l *logged) applied(entry *raft.Log, _ func(func(*locktable.Table))) {
	l.mu.Lock()
	l.entries++
	l.bytes += len(entry.Data)
	busy := l.busy
	l.mu.Unlock()
	if busy != nil {
		<-busy
	}
}

// count returns how many entries, of how many bytes, f brings.
func (l *logged) count(f func()) (entries, bytes float64) {
	synctest.Wait()
	e, b := l.so()
	f()
	synctest.Wait()
	e2, b2 := l.so()
	return float64(e2 - e), float64(b2 - b)
}

func (l *logged) so() (entries, bytes int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.entries, l.bytes
}

// hold lets the next entry be the last one until the function that it returns is called.
func (l *logged) hold() (goOn func()) {
	busy := make(chan struct{})
	l.set(busy)
	return func() {
		l.set(nil)
		close(busy)
	}
}

func (l *logged) set(busy chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy = busy
}

// acquire waits in the queue if it must, and returns the key.
func (l *logged) acquire(name string) string {
	key := rig.NewKey()
	a := &command.Acquire{Name: name, Key: key, Ttl: int64(30 * time.Second), Wait: -1}
	if o, err := l.Acquire(l.t.Context(), a, node.Slice{}); err != nil || o.Code != locktable.Granted {
		l.t.Errorf("acquire: code %d, %v", o.Code, err)
	}
	return key
}

func (l *logged) do(want locktable.Code, c *command.Command) {
	if o, err := l.Propose(l.t.Context(), c); err != nil || o.Code != want {
		l.t.Errorf("code %d, want %d, %v", o.Code, want, err)
	}
}

func (l *logged) release(name, key string) {
	l.do(locktable.Released, command.FromRelease(&command.Release{Name: name, Key: key}))
}

func TestEntriesOfOneClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLogged(t)
		const pairs = 100
		entries, bytes := l.count(func() {
			for i := range pairs {
				name := fmt.Sprintf("lock-%08d", i)
				l.release(name, l.acquire(name))
			}
		})
		pairEntries.holds(t, entries/pairs)
		pairBytes.holds(t, bytes/pairs)
		key := l.acquire("renewed")
		entries, _ = l.count(func() {
			l.do(locktable.Renewed, command.FromRenew(&command.Renew{Name: "renewed", Key: key}))
		})
		renewEntries.holds(t, entries)
	})
}

func TestEntriesOfAHandOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLogged(t)
		const waiters = 20
		first := l.acquire("db")
		keys := make(chan string, waiters)
		var all sync.WaitGroup
		for range waiters {
			all.Go(func() { keys <- l.acquire("db") })
			synctest.Wait()
		}
		entries, _ := l.count(func() {
			key := first
			for range waiters {
				l.release("db", key)
				key = <-keys
			}
		})
		all.Wait()
		handOffEntries.holds(t, entries/waiters)
	})
}

// Whoever comes while an entry is on its way to the disk goes into the next one with all others.
func TestEntriesOfManyClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLogged(t)
		entries, _ := l.together(1000)
		batchEntries.holds(t, entries)
		entries, bytes := l.together(500)
		batchBytes.holds(t, bytes/500)
		if entries != 1 {
			t.Errorf("500 commands came in %v entries", entries)
		}
	})
}

// together has n acquires come while the log is busy, and counts the entries that bring them.
func (l *logged) together(n int) (entries, bytes float64) {
	var all sync.WaitGroup
	goOn := l.hold()
	all.Go(func() { l.acquire(fmt.Sprintf("first-of-%d", n)) })
	synctest.Wait()
	for i := range n {
		all.Go(func() { l.acquire(fmt.Sprintf("lock-%03d-%04d", n, i)) })
	}
	return l.count(func() {
		goOn()
		all.Wait()
	})
}
