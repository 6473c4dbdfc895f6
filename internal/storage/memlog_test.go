package storage

import (
	"runtime"
	"testing"
	"weak"

	"github.com/hashicorp/raft"
)

// What is removed from the log in memory is given free, from either end, and the rest stays.
func TestVolatileLogGivesMemoryFree(t *testing.T) {
	s := OpenVolatile(Options{})
	const n = 100
	var kept [n + 1]weak.Pointer[[4096]byte]
	for i := uint64(1); i <= n; i++ {
		data := new([4096]byte)
		kept[i] = weak.Make(data)
		if err := s.Log().StoreLog(&raft.Log{Index: i, Term: 1, Data: data[:]}); err != nil {
			t.Fatal(err)
		}
	}
	check := func(first, last int) {
		t.Helper()
		runtime.GC()
		for i := 1; i <= n; i++ {
			if inLog, inMemory := i >= first && i <= last, kept[i].Value() != nil; inLog != inMemory {
				t.Errorf("entry %d is in the log: %v, in memory: %v", i, inLog, inMemory)
			}
		}
	}
	check(1, n)
	for _, cut := range []struct{ lo, hi, first, last uint64 }{{1, 40, 41, n}, {91, n, 41, 90}, {1, 41, 42, 90}} {
		if err := s.Log().DeleteRange(cut.lo, cut.hi); err != nil {
			t.Fatal(err)
		}
		check(int(cut.first), int(cut.last))
	}
	m := s.log.in.(*memLog)
	if cap(m.logs) > n {
		t.Errorf("49 entries have room for %d", cap(m.logs))
	}
	if err := s.Log().DeleteRange(1, n); err != nil {
		t.Fatal(err)
	}
	check(0, -1)
	if cap(m.logs) != 0 {
		t.Error("an empty log keeps its room")
	}
}
