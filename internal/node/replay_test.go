package node

import (
	"testing"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

// TestReplay: from the disk alone comes the table that the node had, with and without a snapshot.
func TestReplay(t *testing.T) {
	dir := t.TempDir()
	for _, snapshot := range []bool{false, true} {
		n, err := Open(t.Context(), Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		propose := func(name string) {
			a := &command.Acquire{Name: name, Key: NewKey(), Ttl: int64(1e12)}
			if o, err := n.Propose(t.Context(), command.FromAcquire(a)); err != nil || o.Code != locktable.Granted {
				t.Fatal(o, err)
			}
		}
		for _, name := range []string{"a", "b", "c"} {
			propose(name + map[bool]string{true: "2", false: "1"}[snapshot])
		}
		if snapshot {
			n.snapshot()
			propose("behind the snapshot")
		}
		var want [32]byte
		var at uint64
		n.ReadStale(func(tb *locktable.Table, index uint64, _ time.Duration) { want, at = tb.Hash(), index })
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
		got, reached, err := Replay(dir, at)
		if err != nil || got != want || reached != at {
			t.Errorf("snapshot %v: replayed to %d (%v), want %d; equal hashes: %v", snapshot, reached, err, at, got == want)
		}
		if !snapshot {
			if less, _, _ := Replay(dir, at-1); less == want {
				t.Error("the last entry makes no difference")
			}
		}
	}
}
