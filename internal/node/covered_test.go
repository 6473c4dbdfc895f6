package node

import (
	"testing"

	"github.com/hashicorp/raft"
)

// T17: a process that ended between the installation of a snapshot and the removal of the log before it leaves a log that ends before
// the snapshot. What comes next must fit, and a log that reaches beyond a snapshot must stay.
func TestLogThatASnapshotCoversIsDropped(t *testing.T) {
	for _, c := range []struct {
		snapshot uint64
		kept     bool
	}{{0, true}, {5, true}, {10, true}, {11, false}, {30, false}} {
		s := openBareStore(t, t.TempDir())
		for i := range uint64(10) {
			storeEntry(t, s, i+1)
		}
		if c.snapshot > 0 {
			storeSnapshot(t, s, c.snapshot)
		}
		if err := dropCovered(s.Log(), s.Snapshots()); err != nil {
			t.Fatal(err)
		}
		last, err := s.Log().LastIndex()
		if err != nil || (last == 10) != c.kept {
			t.Errorf("snapshot %d: the log ends at %d, %v", c.snapshot, last, err)
		}
		if err := s.Log().StoreLog(&raft.Log{Index: max(10, c.snapshot) + 1, Term: 2, Type: raft.LogNoop}); err != nil {
			t.Errorf("snapshot %d: what comes next: %v", c.snapshot, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
