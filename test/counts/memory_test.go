//go:build linux && !race

package counts

import (
	"fmt"
	"io"
	"runtime"
	"testing"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

const many = 100_000

// memory returns what lives in this process, in bytes.
func memory() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc + m.StackInuse)
}

// apply has the table do commands 0 to many-1 in entries of 500, and all of them must come out as wanted.
func apply(t *testing.T, table *locktable.Table, want locktable.Code, cmd func(i int) *command.Command) {
	t.Helper()
	const batch = 500
	cmds := make([]*command.Command, batch)
	for first := 0; first < many; first += batch {
		for i := range cmds {
			cmds[i] = cmd(first + i)
		}
		outs, _ := table.Apply(table.Now()+1, cmds)
		for _, o := range outs {
			if o.Code != want {
				t.Fatalf("code %d, want %d: %s", o.Code, want, o.Detail)
			}
		}
	}
}

func numbered(i int) string { return fmt.Sprintf("%032d", i) }

func acquireNumber(i int) *command.Command {
	return command.FromAcquire(&command.Acquire{Name: fmt.Sprintf("lock-%08d", i), Key: numbered(i), Ttl: int64(time.Hour)})
}

func releaseNumber(i int) *command.Command {
	return command.FromRelease(&command.Release{Name: fmt.Sprintf("lock-%08d", i), Key: numbered(i)})
}

func TestHeldLocksAreSmall(t *testing.T) {
	before := memory()
	table := locktable.New(locktable.DefaultSettings())
	apply(t, table, locktable.Granted, acquireNumber)
	heldBytes.holds(t, (memory()-before)/many)

	s := table.Snapshot()
	defer s.Close()
	size := 0
	for {
		data, err := s.Next(1000)
		size += len(data)
		if err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	snapshotBytes.holds(t, float64(size)/many)
}

func TestSessionsAreSmall(t *testing.T) {
	before := memory()
	table := locktable.New(locktable.DefaultSettings())
	apply(t, table, locktable.Opened, func(i int) *command.Command {
		return command.FromOpenSession(&command.OpenSession{Id: numbered(i), Ttl: int64(time.Hour)})
	})
	sessionBytes.holds(t, (memory()-before)/many)
	runtime.KeepAlive(table)
}

// Names that come and go leave nothing behind, once what is remembered of them for a while (spent keys, past holds) is
// forgotten: not the first time, but for the room of maps, and not the second time at all.
func TestNamesThatGoLeaveNothing(t *testing.T) {
	table := locktable.New(locktable.DefaultSettings())
	forgotten := 1 + max(locktable.HistoryRetention(table.Settings()), time.Duration(table.Settings().GetSpentRetention()))
	comeAndGo := func(from int) float64 {
		apply(t, table, locktable.Granted, func(i int) *command.Command { return acquireNumber(from + i) })
		apply(t, table, locktable.Released, func(i int) *command.Command { return releaseNumber(from + i) })
		table.Apply(table.Now().Add(forgotten), nil)
		table.Apply(table.Now().Add(forgotten), nil)
		if s := table.Stats(); s.Locks+s.Spent+s.History != 0 {
			t.Fatalf("something is remembered: %+v", s)
		}
		return memory()
	}
	before := memory()
	once := comeAndGo(0)
	leftBytes.holds(t, (once-before)/many)
	twice := comeAndGo(many)
	leftTwice.holds(t, (twice-once)/many)
	runtime.KeepAlive(table)
}
