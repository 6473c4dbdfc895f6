package locktable

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
)

func apply(tb testing.TB, t *Table, lines ...string) []Outcome {
	tb.Helper()
	var all []Outcome
	for _, line := range lines {
		c, err := parseCommand(strings.Fields(line))
		if err != nil {
			tb.Fatal(err)
		}
		outs, _ := t.Apply(t.Now(), []*command.Command{c})
		all = append(all, outs...)
	}
	return all
}

// TestSnapshotVersion: a snapshot has the version of the table's level, whatever was used of it.
func TestSnapshotVersion(t *testing.T) {
	x := New(testSettings())
	apply(t, x, "session open s1 ttl=60", "acquire k1 a session=s1 request=1", "acquire k2 a ttl=9 wait=9", "release k1 a")
	for want, line := range map[uint32]string{1: "configure max-locks=5", 2: "raise 2"} {
		x.level = 1
		apply(t, x, line)
		for _, again := range []*Table{x, restored(t, x)} {
			data, err := snapshotBytes(again, 10)
			if err != nil {
				t.Fatal(err)
			}
			if got := records(data)[0].GetHeader().GetVersion(); got != want || again.Level() != want {
				t.Errorf("%s: version %d, level %d, expected %d", line, got, again.Level(), want)
			}
		}
	}
}

func restored(tb testing.TB, t *Table) *Table {
	tb.Helper()
	n, err := snapshotRestore(t)
	if err != nil {
		tb.Fatal(err)
	}
	return n
}

// TestSnapshotOfVersionOneHasNothingNewer: what a header says of its version is not believed against the records.
func TestSnapshotOfVersionOneHasNothingNewer(t *testing.T) {
	for _, lines := range [][]string{
		{"task claim k1 a ttl=9"},
		{"calendar at=1000"},
		{"configure max-tasks=5"},
		{"acquire k1 set=a,b ttl=9"},
		{"acquire k1 a ttl=9", "ask a within=1"},
		{"acquire k1 a ttl=9", "break a token=1"},
		{"session open s1 ttl=9", "acquire k1 a session=s1", "acquire k2 a session=s1", "raise 2", "release k1 a"}, // the first grant
	} {
		x := New(testSettings())
		apply(t, x, lines...)
		x.level = 1
		data, err := snapshotBytes(x, 10)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Restore(bytes.NewReader(data)); err == nil {
			t.Errorf("%v: a snapshot of version 1 was accepted", lines)
		}
	}
}

// TestTaskListing lists tasks by prefix, in name order, page by page.
func TestTaskListing(t *testing.T) {
	table := newTable(testSettings())
	for i, name := range []string{"b", "a/2", "a", "a/10", "c", "a/1"} {
		apply(t, table, fmt.Sprintf("task claim k%d %s ttl=9", i, name))
	}
	for _, c := range []struct {
		prefix, after string
		limit         int
		want          string
	}{
		{"", "", 100, "a a/1 a/10 a/2 b c"},
		{"", "", 3, "a a/1 a/10"},
		{"", "a/1", 3, "a/10 a/2 b"},
		{"a/", "", 100, "a/1 a/10 a/2"},
		{"a/", "a/10", 100, "a/2"},
		{"a/", "b", 100, ""},
		{"x", "", 100, ""},
	} {
		var got []string
		for _, x := range table.Tasks(c.prefix, c.after, c.limit) {
			got = append(got, x.Name)
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("prefix %q after %q limit %d: %q, expected %q", c.prefix, c.after, c.limit, s, c.want)
		}
	}
	if len(table.Locks("", "", 10, 1)) != 0 {
		t.Error("tasks are listed as locks")
	}
}

// TestTaskKeysAreNotShown formats all that the table says about tasks and finds neither a claimant's nor a finisher's key in it.
func TestTaskKeysAreNotShown(t *testing.T) {
	table := newTable(testSettings())
	outs := apply(t, table, "task claim secret1 t ttl=9", "task claim secret2 t ttl=9 wait=9", "task fail secret1 t", "task renew secret2 t progress=x")
	one, _ := table.Task("t")
	said := fmt.Sprintf("%v %+v %+v %+v %#v", outs, *outs[2].Task, one, table.Tasks("", "", 9), one)
	if strings.Contains(said, "secret") {
		t.Errorf("a key is shown: %s", said)
	}
}

// TestKeyInfoOfTasks tells the owner of a key that it stands for a task.
func TestKeyInfoOfTasks(t *testing.T) {
	table := newTable(testSettings())
	apply(t, table, "task claim k1 t ttl=9", "task claim k2 t ttl=9 wait=9", "acquire k3 t ttl=9")
	for key, want := range map[string]KeyInfo{
		"k1": {Lock: "t", Task: true, Held: true}, "k2": {Lock: "t", Task: true, Position: 1}, "k3": {Lock: "t", Held: true},
	} {
		k, _ := ParseKey(pad(key))
		i, ok := table.Key(k)
		if !ok || i.Lock != want.Lock || i.Task != want.Task || i.Held != want.Held || i.Position != want.Position {
			t.Errorf("%s: %+v", key, i)
		}
	}
}

// TestRenewAllTasks: after a restore from a backup claims on tasks last their whole lifetime, like holds, and a snapshot that had
// begun shows the time before.
func TestRenewAllTasks(t *testing.T) {
	table := newTable(testSettings())
	apply(t, table, "task claim k1 t ttl=10", "task claim k2 t ttl=5 wait=-1")
	table.Apply(Time(9*time.Second), nil)
	before, running := table.Hash(), table.Snapshot()
	table.RenewAll()
	for {
		if _, err := running.Next(1); err != nil {
			break
		}
	}
	running.Close()
	if [32]byte(running.trailer.GetSha256()) != before {
		t.Error("the snapshot changed")
	}
	if x, _ := table.Task("t"); x.Deadline != Time(19*time.Second) {
		t.Errorf("the claim ends at %d", x.Deadline)
	}
	table.Apply(Time(18*time.Second), nil)
	if x, _ := restored(t, table).Task("t"); x.Status != TaskRunning || x.Waiters != 1 {
		t.Errorf("%+v", x)
	}
}

// TestDefaultsOfTasks: settings without a word on tasks stand for the defaults, and too large ones are refused.
func TestDefaultsOfTasks(t *testing.T) {
	s := testSettings()
	if MaxTasks(s) != 1_000_000 || MaxResult(s) != 16<<10 {
		t.Errorf("defaults are %d and %d", MaxTasks(s), MaxResult(s))
	}
	if CheckTaskText(s, strings.Repeat("x", 16<<10)) != nil || CheckTaskText(s, strings.Repeat("x", 16<<10+1)) == nil {
		t.Error("the default of max_result is not what it should be")
	}
	if CheckTaskText(s, "a\nb\tc") != nil || CheckTaskText(s, "a\x00") == nil || CheckTaskText(s, "\xff") == nil {
		t.Error("texts are not checked as they should be")
	}
	for _, change := range []func(*command.Settings){
		func(s *command.Settings) { s.MaxTasks = 1<<30 + 1 }, func(s *command.Settings) { s.MaxResult = maxStringLimit + 1 },
	} {
		s := testSettings()
		change(s)
		if CheckSettings(s) == nil {
			t.Errorf("%v passes", s)
		}
	}
}
