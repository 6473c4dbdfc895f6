package node

import (
	"testing"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

// TestImageHash: from the disk alone comes the state that the node had, with and without a snapshot.
func TestImageHash(t *testing.T) {
	dir := t.TempDir()
	seen := map[[32]byte]bool{}
	for _, snapshot := range []bool{false, true} {
		n, err := Open(t.Context(), Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		take := func() {
			a := &command.Acquire{Name: NewKey(), Key: NewKey(), Ttl: int64(time.Hour)}
			if o, err := n.Propose(t.Context(), command.FromAcquire(a)); err != nil || o.Code != locktable.Granted {
				t.Fatal(o, err)
			}
		}
		take()
		if snapshot {
			n.snapshot()
			take()
		}
		var want [32]byte
		n.ReadStale(func(table *locktable.Table, _ uint64, _ time.Duration) { want = table.Hash() })
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
		image, err := ReadDir(dir, nil, "")
		if err != nil {
			t.Fatal(err)
		}
		if image.Hash() != want || seen[want] {
			t.Errorf("snapshot %v: the hash is right: %v; seen before: %v", snapshot, image.Hash() == want, seen[want])
		}
		seen[want] = true
	}
}
