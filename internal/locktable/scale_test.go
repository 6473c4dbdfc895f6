package locktable

import (
	"fmt"
	"testing"

	"github.com/doubledutch-lock/doubledutch/internal/command"
)

// BenchmarkScale measures what one command costs while so many locks are held. The cost must not grow with them, but for what the
// caches of the processor no longer hold.
func BenchmarkScale(b *testing.B) {
	sizes := []int{1_000, 10_000, 100_000, 1_000_000}
	for _, op := range []struct {
		name string
		run  func(b *testing.B, t *Table, held int)
	}{
		{"acquire and release", scalePairs},
		{"renew", scaleRenewals},
		{"hand-off", scaleHandOffs},
		{"begin a snapshot", scaleSnapshots},
	} {
		for _, n := range sizes {
			b.Run(fmt.Sprintf("%s/held=%d", op.name, n), func(b *testing.B) { op.run(b, hold(b, n), n) })
		}
	}
}

// scaleRound is how many commands are made beforehand. Their keys are forgotten before they come again.
const scaleRound = 1 << 16

func scalePairs(b *testing.B, t *Table, _ int) {
	acquires, releases := make([][]*command.Command, scaleRound), make([][]*command.Command, scaleRound)
	for i := range acquires {
		name, key := fmt.Sprintf("other-%08d", i), benchKey(1<<30+i)
		acquires[i] = []*command.Command{acquireCommand(name, key, 0)}
		releases[i] = []*command.Command{command.FromRelease(&command.Release{Name: name, Key: key})}
	}
	for i := 0; b.Loop(); i++ {
		if i%scaleRound == 0 {
			b.StopTimer()
			forgetSpent(b, t)
			b.StartTimer()
		}
		t.Apply(t.Now(), acquires[i%scaleRound])
		if outs, _ := t.Apply(t.Now(), releases[i%scaleRound]); outs[0].Code != Released {
			b.Fatal(showOutcome(outs[0]))
		}
	}
}

// forgetSpent lets so many other keys end that none of before is remembered.
func forgetSpent(b *testing.B, t *Table) {
	b.Helper()
	most := int(t.Settings().GetMaxSpent())
	for i := range most {
		key := benchKey(1<<31 + i)
		t.Apply(t.Now(), []*command.Command{acquireCommand("spent", key, 0), command.FromRelease(&command.Release{Name: "spent", Key: key})})
	}
}

func scaleRenewals(b *testing.B, t *Table, held int) {
	renewals := make([][]*command.Command, scaleRound)
	for i := range renewals {
		n := i * 7919 % held // neighbours do not follow each other
		renewals[i] = []*command.Command{command.FromRenew(&command.Renew{Name: fmt.Sprintf("lock-%08d", n), Key: benchKey(n)})}
	}
	for i := 0; b.Loop(); i++ {
		if outs, _ := t.Apply(t.Now()+1, renewals[i%scaleRound]); outs[0].Code != Renewed {
			b.Fatal(showOutcome(outs[0]))
		}
	}
}

// scaleHandOffs lets one lock go round: a release, and the same client queues up again.
func scaleHandOffs(b *testing.B, t *Table, _ int) {
	const waiters = 32
	key := func(i int) string { return benchKey(1<<30 + i) }
	for i := range waiters + 1 {
		t.Apply(t.Now(), []*command.Command{acquireCommand("db", key(i), -1)})
	}
	entries := make([][]*command.Command, 4*scaleRound)
	for i := range entries {
		entries[i] = []*command.Command{
			command.FromRelease(&command.Release{Name: "db", Key: key(i)}),
			acquireCommand("db", key((i+waiters+1)%len(entries)), -1),
		}
	}
	for i := 0; b.Loop(); i++ {
		if outs, _ := t.Apply(t.Now()+1, entries[i%len(entries)]); outs[0].Code != Released || outs[1].Code != Waiting {
			b.Fatal(showOutcome(outs[0]), showOutcome(outs[1]))
		}
	}
}

func scaleSnapshots(b *testing.B, t *Table, _ int) {
	for b.Loop() {
		t.Snapshot().Close()
	}
}
