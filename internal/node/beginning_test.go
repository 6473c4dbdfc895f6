package node

import (
	"testing"
	"testing/synctest"

	"github.com/hashicorp/raft"

	"github.com/doubledutch-lock/doubledutch/internal/locktable"
	"github.com/doubledutch-lock/doubledutch/internal/storage"
)

// A crash between the two writes of raft.BootstrapCluster, the first term and the first entry, must not keep the server from ever
// starting.
func TestBeginningThatWasInterrupted(t *testing.T) {
	dir := t.TempDir()
	s := openBareStore(t, dir)
	setTerm(firstTerm)(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"a", "b"} {
		n := open(t, dir)
		mustAcquire(t, n, acquireCmd("db", key, 0), locktable.Granted)
		mustRelease(t, n, "db", key)
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Whoever has taken part in an election, or has entries or a snapshot, does not begin again.
func TestPast(t *testing.T) {
	for name, c := range map[string]struct {
		make func(*testing.T, *storage.Store)
		past bool
	}{
		"nothing":        {func(*testing.T, *storage.Store) {}, false},
		"the first term": {setTerm(firstTerm), false},
		"a later term":   {setTerm(firstTerm + 1), true},
		"an entry":       {func(t *testing.T, s *storage.Store) { storeEntry(t, s, 1) }, true},
		"the first term and an entry": {func(t *testing.T, s *storage.Store) {
			setTerm(firstTerm)(t, s)
			storeEntry(t, s, 1)
		}, true},
		"the first term and a snapshot": {func(t *testing.T, s *storage.Store) {
			setTerm(firstTerm)(t, s)
			storeSnapshot(t, s, 1)
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := openBareStore(t, t.TempDir())
			defer func() { _ = s.Close() }()
			c.make(t, s)
			n := &Node{store: s, config: Config{}.withDefaults()}
			for range 2 {
				if past, err := n.hasPast(); err != nil || past != c.past {
					t.Errorf("past: %v (want %v), %v", past, c.past, err)
				}
			}
		})
	}
}

func setTerm(term uint64) func(*testing.T, *storage.Store) {
	return func(t *testing.T, s *storage.Store) {
		if err := s.Stable().SetUint64([]byte(keyCurrentTerm), term); err != nil {
			t.Fatal(err)
		}
	}
}

// The first of three was interrupted, and the others still wait for it.
func TestBeginningOfThreeThatWasInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openTrioOf(t, &Simulation{Open: func(o storage.Options) (*storage.Store, error) {
			s := storage.OpenVolatile(o)
			if o.Name == "n1" {
				setTerm(firstTerm)(t, s)
			}
			return s, nil
		}})
		_, leader := c.leader()
		mustAcquire(t, leader, acquireCmd("db", "a", 0), locktable.Granted)
	})
}

// openBareStore opens the data directory of a node that does not run.
func openBareStore(t *testing.T, dir string) *storage.Store {
	t.Helper()
	s, err := storage.Open(storage.Options{Dir: dir, Fatal: func(err error) { t.Error(err) }})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func storeEntry(t *testing.T, s *storage.Store, index uint64) {
	t.Helper()
	if err := s.Log().StoreLog(&raft.Log{Index: index, Term: 1, Type: raft.LogNoop}); err != nil {
		t.Fatal(err)
	}
}

func storeSnapshot(t *testing.T, s *storage.Store, index uint64) {
	t.Helper()
	_, transport := raft.NewInmemTransport("")
	sink, err := s.Snapshots().Create(raft.SnapshotVersionMax, index, 1, raft.Configuration{}, 1, transport)
	if err != nil {
		t.Fatal(err)
	}
	if err := sink.Close(); err != nil {
		t.Fatal(err)
	}
}
