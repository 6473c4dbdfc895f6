package locktable

import (
	"fmt"
	"testing"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
)

func claimCommand(name, key string, wait time.Duration) *command.Command {
	return command.FromClaimTask(&command.ClaimTask{Name: name, Key: key, Ttl: int64(time.Hour), Wait: int64(wait), MaxAttempts: 1})
}

// BenchmarkTasks measures a claim and its end, the end of a task for which 10,000 wait, and 10,000 waits that run out while
// nobody who waits may have the task (which must not look at all of them each time); an operation of the last two is one waiter.
func BenchmarkTasks(b *testing.B) {
	b.Run("ClaimFinishPair", func(b *testing.B) {
		const n = 4096
		t := newTable(benchSettings())
		var claims, ends [n][]*command.Command
		for i := range n {
			name := fmt.Sprintf("task-%08d", i)
			claims[i] = []*command.Command{claimCommand(name, benchKey(i), 0)}
			ends[i] = []*command.Command{command.FromFinishTask(&command.FinishTask{Name: name, Key: benchKey(i), Text: "ok"})}
		}
		b.ReportAllocs()
		now := Time(0)
		for i := 0; b.Loop(); i++ {
			if i%n == 0 {
				now = now.Add(2 * time.Hour) // the spent keys of the last round are forgotten
			}
			t.Apply(now, claims[i%n])
			if outs, _ := t.Apply(now, ends[i%n]); outs[0].Code != Finished {
				b.Fatal(showOutcome(outs[0]))
			}
		}
	})
	b.Run("Answer/waiters=10000", func(b *testing.B) { benchTaskWaiters(b, false) })
	b.Run("RunOut/waiters=10000", func(b *testing.B) { benchTaskWaiters(b, true) })
}

func benchTaskWaiters(b *testing.B, fail bool) {
	const n = 10_000
	for done := 0; done < b.N; done += n {
		b.StopTimer()
		t := newTable(benchSettings())
		first := claimCommand("t", benchKey(n), 0)
		first.GetClaimTask().MaxAttempts = 0
		t.Apply(0, []*command.Command{first})
		for i := range n {
			t.Apply(0, []*command.Command{claimCommand("t", benchKey(i), time.Second)})
		}
		end := &command.FinishTask{Name: "t", Key: benchKey(n), Failed: fail}
		b.StartTimer()
		t.Apply(0, []*command.Command{command.FromFinishTask(end)})
		t.Apply(Time(time.Second), nil)
		if s := t.Stats(); s.TaskWaiters != 0 {
			b.Fatalf("%+v", s)
		}
	}
}
