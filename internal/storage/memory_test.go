package storage

import (
	"io"
	"testing"

	"github.com/hashicorp/raft"
)

// What one process has written is there for the next one, and what is left of a process that has ended writes no more.
func TestMemoryOutlivesItsProcesses(t *testing.T) {
	m := NewMemory()
	dead := false
	open := func(ended func() bool) *Store {
		t.Helper()
		s, err := OpenOn(Options{Name: "n1", Fatal: func(error) {}}, m.Attach(ended))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	first := open(func() bool { return dead })
	for i := range uint64(3) {
		if err := first.Log().StoreLog(&raft.Log{Index: i + 1, Term: 1}); err != nil {
			t.Fatal(err)
		}
	}
	if err := first.Log().DeleteRange(1, 1); err != nil {
		t.Fatal(err)
	}
	if err := first.Stable().Set([]byte("k"), []byte("v")); err != nil {
		t.Fatal(err)
	}
	snap := func(s *Store, text string) error {
		sink, err := s.Snapshots().Create(raft.SnapshotVersionMax, 2, 1, raft.Configuration{}, 1, nil)
		if err != nil {
			return err
		}
		if _, err := io.WriteString(sink, text); err != nil {
			return err
		}
		return sink.Close()
	}
	if err := snap(first, "state"); err != nil {
		t.Fatal(err)
	}

	dead = true
	if err := first.Log().StoreLog(&raft.Log{Index: 4, Term: 1}); err == nil {
		t.Error("a process that has ended wrote to the log")
	}
	if err := first.Log().DeleteRange(2, 3); err == nil {
		t.Error("a process that has ended cut the log")
	}
	if err := snap(first, "late"); err == nil {
		t.Error("a process that has ended took a snapshot")
	}
	_ = first.Stable().Set([]byte("k"), []byte("late"))
	_ = first.Stable().SetUint64([]byte("n"), 9)

	second := open(func() bool { return false })
	if second.NodeID() != first.NodeID() || second.Name() != "n1" {
		t.Error("the identity is another one")
	}
	lo, _ := second.Log().FirstIndex()
	hi, _ := second.Log().LastIndex()
	if lo != 2 || hi != 3 {
		t.Errorf("the log is %d to %d, want 2 to 3", lo, hi)
	}
	if v, err := second.Stable().Get([]byte("k")); err != nil || string(v) != "v" {
		t.Errorf("the value is %q, %v", v, err)
	}
	if n, _ := second.Stable().GetUint64([]byte("n")); n != 0 {
		t.Errorf("a late number %d was written", n)
	}
	metas, err := second.Snapshots().List()
	if err != nil || len(metas) != 1 {
		t.Fatalf("snapshots: %v, %v", metas, err)
	}
	_, r, err := second.Snapshots().Open(metas[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	if text, _ := io.ReadAll(r); string(text) != "state" {
		t.Errorf("the snapshot says %q", text)
	}
}
