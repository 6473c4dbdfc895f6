package locktable

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
)

// churn acquires and releases a lock with a new key at each call.
func churn(tb testing.TB, t *Table, key int, name string) {
	tb.Helper()
	k := benchKey(key)
	outs, _ := t.Apply(t.Now()+1, []*command.Command{
		acquireCommand(name, k, 0), command.FromRelease(&command.Release{Name: name, Key: k}),
	})
	if outs[0].Code != Granted || outs[1].Code != Released {
		tb.Fatal(showOutcome(outs[0]), showOutcome(outs[1]))
	}
}

func remembering(s *command.Settings) *Table {
	t := newTable(s)
	t.Apply(0, []*command.Command{command.FromCalendar(&command.Calendar{At: int64(time.Hour)})})
	return t
}

// TestBusyLockKeepsOthersPast: a lock that is used all the time drives out its own past holds, and takes no more room in memory
// for it; those of a quiet lock stay.
func TestBusyLockKeepsOthersPast(t *testing.T) {
	table := remembering(benchSettings())
	churn(t, table, 0, "quiet")
	for i := range 10_000 {
		churn(t, table, 1+i, "busy")
		if n := len(table.past.list); n > 2*table.past.n+1024 {
			t.Fatalf("%d past holds in memory, %d remembered", n, table.past.n)
		}
	}
	if h := table.History("quiet", 10); len(h) != 1 || h[0].Token != 1 {
		t.Errorf("the quiet lock: %+v", h)
	}
	h := table.History("busy", 1000)
	if len(h) != defaultMaxHistoryPerLock {
		t.Fatalf("%d past holds of the busy lock", len(h))
	}
	for i, p := range h {
		if want := uint64(10_001 - i); p.Token != want {
			t.Errorf("the past hold %d has token %d, expected %d", i, p.Token, want)
		}
	}
	if err := table.CheckInvariants(); err != nil {
		t.Error(err)
	}
}

// TestPastInSnapshots takes a snapshot of many past holds in small chunks while others come and go, so that the list is
// rearranged several times: it shows the state at its beginning.
func TestPastInSnapshots(t *testing.T) {
	s := benchSettings()
	s.MaxHistory = 5000
	table := remembering(s)
	key := 0
	use := func(n int) {
		for range n {
			churn(t, table, key, fmt.Sprintf("lock-%d", key%4100))
			key++
		}
		for range n {
			churn(t, table, key, "busy")
			key++
		}
	}
	use(4100)
	snap := table.Snapshot()
	hash := table.Hash()
	var data []byte
	for {
		b, err := snap.Next(1)
		data = append(data, b...)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		use(300)
	}
	snap.Close()
	restored, err := Restore(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if restored.Hash() != hash {
		t.Error("the snapshot does not show the state at its beginning")
	}
	if n := restored.Stats().History; n != 4100+defaultMaxHistoryPerLock {
		t.Errorf("%d past holds restored", n)
	}
}

// TestManyReadings: of too many readings of the calendar, those go that changed it least.
func TestManyReadings(t *testing.T) {
	table := newTable(testSettings())
	wall := int64(time.Hour)
	want := map[Time]int64{}
	for i := range 3000 {
		wall += int64(time.Second) + 2*calendarTolerance
		if i%100 == 7 {
			wall += int64(time.Minute)
		}
		table.Apply(Time(i)*Time(time.Second), []*command.Command{command.FromCalendar(&command.Calendar{At: wall})})
		want[table.Now()] = wall
		if got, ok := table.Calendar(table.Now()); !ok || got != wall {
			t.Fatalf("the calendar shows %d instead of %d", got, wall)
		}
	}
	if n := len(table.anchors); n != maxAnchors {
		t.Errorf("%d readings are remembered", n)
	}
	if err := table.CheckInvariants(); err != nil {
		t.Error(err)
	}
	last := int64(0)
	for at := Time(0); at <= table.Now(); at += Time(time.Second) {
		got, ok := table.Calendar(at)
		if off := want[at] - got; !ok || off < 0 || off > 10*calendarTolerance {
			t.Errorf("at %d the calendar is remembered %d ns off", at, off)
		}
		if got < last {
			t.Errorf("the calendar goes back to %d at %d", got, at)
		}
		last = got
	}
}

// TestCalendarEnds: the calendar has an end, and does not wrap round.
func TestCalendarEnds(t *testing.T) {
	table := newTable(testSettings())
	table.Apply(0, []*command.Command{command.FromCalendar(&command.Calendar{At: maxCalendar})})
	last := int64(0)
	for _, at := range []Time{0, 1, Never / 2, Never - 1, Never} {
		wall, ok := table.Calendar(at)
		if !ok || wall < last || wall < maxCalendar {
			t.Errorf("at %d the calendar shows %d", at, wall)
		}
		last = wall
	}
}

// TestExpectedIsBounded: a wait is never expected to be negative, however long holds took and however many wait.
func TestExpectedIsBounded(t *testing.T) {
	s := benchSettings()
	s.MaxTtl = int64(maxDuration)
	table := remembering(s)
	acquire := func(name string, key int, slots uint32) *command.Command {
		return command.FromAcquire(&command.Acquire{
			Name: name, Key: benchKey(key), Ttl: int64(maxDuration), Wait: -1, Slots: slots, Owner: "ann",
		})
	}
	table.Apply(0, []*command.Command{acquire("a", 1, 0)})
	var cmds []*command.Command
	for i := range 100 {
		cmds = append(cmds, command.FromPoll(&command.Poll{}), acquire("a", 2+i, 0))
	}
	now := Time(maxDuration) - 1
	table.Apply(now, []*command.Command{command.FromRelease(&command.Release{Name: "a", Key: benchKey(1)})})
	table.Apply(now, cmds)
	for i := range 100 {
		k, _ := ParseKey(benchKey(2 + i))
		if info, ok := table.Key(k); !ok || info.Held != (i == 0) || !info.Held && (info.Expected <= 0 || info.Expected > maxDuration) {
			t.Fatalf("waiter %d: %+v", i, info)
		}
	}
}

// TestSettingsOfVersion2: 0 stands for the default, and settings that are the same but for that allow the same.
func TestSettingsOfVersion2(t *testing.T) {
	plain, full := DefaultSettings(), withDefaults(DefaultSettings())
	if !SameSettings(plain, full) || !SameSettings(full, plain) {
		t.Error("0 does not stand for the default")
	}
	if command.Current.Of(command.FromConfigure(&command.Configure{Settings: plain})) != 1 {
		t.Error("the default settings need version 2")
	}
	for name, change := range map[string]func(s *command.Settings){
		"max_set":              func(s *command.Settings) { s.MaxSet = 1<<10 + 1 },
		"max_tasks":            func(s *command.Settings) { s.MaxTasks = 1<<30 + 1 },
		"max_result":           func(s *command.Settings) { s.MaxResult = 1<<16 + 1 },
		"max_history":          func(s *command.Settings) { s.MaxHistory = 1<<26 + 1 },
		"max_history_per_lock": func(s *command.Settings) { s.MaxHistoryPerLock = 1<<16 + 1 },
		"history_retention":    func(s *command.Settings) { s.HistoryRetention = -1 },
	} {
		s := DefaultSettings()
		change(s)
		if err := CheckSettings(s); err == nil || SameSettings(s, plain) {
			t.Errorf("%s out of bounds: %v", name, err)
		}
	}
	if got := []int{MaxSet(plain), MaxTasks(plain), MaxResult(plain), MaxHistory(plain), MaxHistoryPerLock(plain)}; got[0] != 64 ||
		got[1] != 1_000_000 || got[2] != 16<<10 || got[3] != 100_000 || got[4] != 32 || HistoryRetention(plain) != 7*day {
		t.Errorf("the defaults are %v", got)
	}
}
