package locktable

import (
	"bytes"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
)

// benchSettings let a million locks in.
func benchSettings() *command.Settings {
	s := testSettings()
	s.MaxLocks, s.MaxSpent, s.MaxWaitersPerLock = 1<<21, 1<<16, 1<<16
	s.MaxClaims, s.MaxTextBytes, s.MaxSessions = 1<<22, 1<<28, 1<<20
	return s
}

func benchKey(i int) string { return fmt.Sprintf("%032d", i) }

func acquireCommand(name, key string, wait time.Duration) *command.Command {
	return command.FromAcquire(&command.Acquire{Name: name, Key: key, Ttl: int64(time.Hour), Wait: int64(wait)})
}

// hold fills a table with n held locks, in entries of 512 commands.
func hold(tb testing.TB, n int) *Table {
	tb.Helper()
	t := newTable(benchSettings())
	var batch []*command.Command
	flush := func() {
		outs, _ := t.Apply(t.Now(), batch)
		for _, o := range outs {
			if o.Code != Granted {
				tb.Fatalf("%s", showOutcome(o))
			}
		}
		batch = batch[:0]
	}
	for i := range n {
		batch = append(batch, acquireCommand(fmt.Sprintf("lock-%08d", i), benchKey(i), 0))
		if len(batch) == 512 {
			flush()
		}
	}
	flush()
	return t
}

// BenchmarkApply measures one command per operation, or a pair where the name says so. The commands are made beforehand.
func BenchmarkApply(b *testing.B) {
	b.Run("AcquireReleasePair", benchPair)
	b.Run("AcquireReleasePair/names=250000", func(b *testing.B) { benchNames(b, false) })
	b.Run("AcquireReleasePair/names=250000/remembered", func(b *testing.B) { benchNames(b, true) })
	b.Run("Renew/held=100000", benchRenew)
	b.Run("HandOff/waiters=100", benchHandOff)
	b.Run("Expire/batch=10000", benchExpire)
}

func benchPair(b *testing.B) {
	const n = 4096
	t := newTable(benchSettings())
	var acquires, releases [n][]*command.Command
	for i := range n {
		name := fmt.Sprintf("lock-%08d", i)
		acquires[i] = []*command.Command{acquireCommand(name, benchKey(i), 0)}
		releases[i] = []*command.Command{command.FromRelease(&command.Release{Name: name, Key: benchKey(i)})}
	}
	b.ReportAllocs()
	now := Time(0)
	for i := 0; b.Loop(); i++ {
		if i%n == 0 {
			now = now.Add(2 * time.Hour) // the spent keys of the last round are forgotten
		}
		t.Apply(now, acquires[i%n])
		if outs, _ := t.Apply(now, releases[i%n]); outs[0].Code != Released {
			b.Fatal(showOutcome(outs[0]))
		}
	}
}

// benchNames is benchPair with 250,000 names that come one after the other, without past holds, or with as many as can be
// remembered, so that each that comes drives another one out.
func benchNames(b *testing.B, remembered bool) {
	const n = 250_000
	t := New(benchSettings())
	acquires, releases := make([][]*command.Command, n), make([][]*command.Command, n)
	for i := range n {
		name := fmt.Sprintf("lock-%08d", i)
		acquires[i] = []*command.Command{acquireCommand(name, benchKey(i), 0)}
		releases[i] = []*command.Command{command.FromRelease(&command.Release{Name: name, Key: benchKey(i)})}
	}
	if remembered {
		t.Apply(0, []*command.Command{command.FromRaise(&command.Raise{Version: 2})})
	}
	pair := func(i int) {
		// The keys are forgotten before they come again, the past holds are not.
		t.Apply(t.Now()+1, acquires[i%n])
		if outs, _ := t.Apply(t.Now(), releases[i%n]); outs[0].Code != Released {
			b.Fatal(showOutcome(outs[0]))
		}
	}
	for i := range n / 2 {
		pair(i)
	}
	b.ReportAllocs()
	for i := n / 2; b.Loop(); i++ {
		pair(i)
	}
	if remembered != (t.Stats().History == defaultMaxHistory) {
		b.Fatalf("%d past holds", t.Stats().History)
	}
}

func benchRenew(b *testing.B) {
	const n = 100_000
	t := hold(b, n)
	var renews [n][]*command.Command
	for i := range n {
		renews[i] = []*command.Command{command.FromRenew(&command.Renew{Name: fmt.Sprintf("lock-%08d", i), Key: benchKey(i)})}
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if outs, _ := t.Apply(t.Now()+1, renews[i*7919%n]); outs[0].Code != Renewed {
			b.Fatal(showOutcome(outs[0]))
		}
	}
}

// benchHandOff releases a lock to the first of 100 waiters and queues the old holder again under a new key.
func benchHandOff(b *testing.B) {
	const n = 1 << 17
	t := newTable(benchSettings())
	entries := make([][]*command.Command, n)
	for i := range n {
		a := acquireCommand("db", benchKey((i+101)%n), time.Minute)
		r := command.FromRelease(&command.Release{Name: "db", Key: benchKey(i)})
		entries[i] = []*command.Command{r, a}
	}
	for i := range 101 {
		t.Apply(0, []*command.Command{acquireCommand("db", benchKey(i), time.Minute)})
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		// A key comes round again after more keys than are remembered as spent.
		if outs, _ := t.Apply(t.Now()+1, entries[i%n]); outs[0].Code != Released || outs[1].Code != Waiting {
			b.Fatal(showOutcome(outs[0]), showOutcome(outs[1]))
		}
	}
}

// benchExpire lets 10,000 holds expire in one entry; an operation is one expiry.
func benchExpire(b *testing.B) {
	const n = 10_000
	b.ReportAllocs()
	for done := 0; done < b.N; done += n {
		b.StopTimer()
		t := hold(b, n)
		b.StartTimer()
		if _, events := t.Apply(Time(time.Hour), nil); len(events) != n {
			b.Fatalf("%d events", len(events))
		}
	}
}

// BenchmarkMemory reports the heap that a held lock takes.
func BenchmarkMemory(b *testing.B) {
	for _, n := range []int{100_000, 1_000_000} {
		b.Run(fmt.Sprintf("held=%d", n), func(b *testing.B) {
			for b.Loop() {
				before := heapBytes()
				t := hold(b, n)
				b.ReportMetric(float64(heapBytes()-before)/float64(n), "B/lock")
				runtime.KeepAlive(t)
			}
		})
	}
}

func heapBytes() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkSnapshot measures beginning a snapshot (what Apply has to wait for), writing it and reading it back.
func BenchmarkSnapshot(b *testing.B) {
	t := hold(b, 100_000)
	b.Run("Begin/held=100000", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			t.Snapshot().Close()
		}
	})
	b.Run("Write/held=100000", func(b *testing.B) {
		for b.Loop() {
			data, err := snapshotBytes(t, 1000)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(len(data))/100_000, "B/lock")
		}
	})
	b.Run("Restore/held=100000", func(b *testing.B) {
		data, err := snapshotBytes(t, 1000)
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if _, err := Restore(bytes.NewReader(data)); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkQueue measures joining a queue behind 10,000 others, and giving the place up: by one who holds nothing, who can close
// no cycle, and by a session that holds a lock for which somebody waits, so that the question has to be asked.
func BenchmarkQueue(b *testing.B) {
	for _, c := range []struct {
		name                              string
		waiters                           int
		inSessions, holding, deadlockable bool
	}{
		{"plain/behind=1", 1, false, false, false},
		{"plain/behind=10000", 10_000, false, false, false},
		{"plain/behind=10000 sessions that hold", 10_000, true, true, false},
		{"holding/behind=1", 1, false, false, true},
		{"holding/behind=10000 plain", 10_000, false, false, true},
		{"holding/behind=10000 sessions", 10_000, true, false, true},
		{"holding/behind=10000 sessions that hold", 10_000, true, true, true},
	} {
		b.Run(c.name, func(b *testing.B) { benchQueue(b, c.waiters, c.inSessions, c.holding, c.deadlockable) })
	}
}

func benchQueue(b *testing.B, waiters int, inSessions, holding, asks bool) {
	s := benchSettings()
	t := deadlockWorld(b, s, waiters+1)
	apply := func(want Code, c *command.Command) {
		if outs, _ := t.Apply(0, []*command.Command{c}); outs[0].Code != want {
			b.Fatal(showOutcome(outs[0]))
		}
	}
	apply(Granted, acquireCommand("db", benchKey(0), 0))
	for i := range waiters {
		switch {
		case inSessions && holding:
			apply(Granted, sessionAcquire(i, fmt.Sprintf("own%d", i), benchKey(1_000_000+i), 0))
			fallthrough
		case inSessions:
			apply(Waiting, sessionAcquire(i, "db", benchKey(1+i), -1))
		default:
			apply(Waiting, acquireCommand("db", benchKey(1+i), -1))
		}
	}
	key := benchKey(9_000_000)
	last := acquireCommand("db", key, -1)
	if asks {
		apply(Granted, sessionAcquire(waiters, "wanted", benchKey(9_000_001), 0))
		apply(Waiting, acquireCommand("wanted", benchKey(9_000_002), -1))
		last = sessionAcquire(waiters, "db", key, -1)
	}
	last.GetAcquire().Attachment = 1
	join := []*command.Command{last}
	leave := []*command.Command{command.FromAbandon(&command.Abandon{Key: key, Attachment: 1})}
	b.ReportAllocs()
	for b.Loop() {
		if outs, _ := t.Apply(0, join); outs[0].Code != Waiting {
			b.Fatal(showOutcome(outs[0]))
		}
		t.Apply(0, leave)
	}
}

// BenchmarkCycle measures the refusal of one who would close a cycle of a thousand.
func BenchmarkCycle(b *testing.B) {
	const n = 1000
	t := longCycle(b, n)
	ask := []*command.Command{sessionAcquire(n-1, "l0000", benchKey(2*n), -1)}
	b.ReportAllocs()
	for b.Loop() {
		if outs, _ := t.Apply(0, ask); outs[0].Code != Deadlock {
			b.Fatal(showOutcome(outs[0]))
		}
	}
}
