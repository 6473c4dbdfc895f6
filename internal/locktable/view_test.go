package locktable

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/doubledutch-lock/doubledutch/internal/command"
)

// TestListing lists locks by prefix, in name order, page by page.
func TestListing(t *testing.T) {
	table := newTable(testSettings())
	for i, name := range []string{"b", "a/2", "a", "ä", "a/10", "A", "c", "a/1"} {
		table.Apply(0, []*command.Command{acquireCommand(name, benchKey(i), 0)})
	}
	for _, c := range []struct {
		prefix, after string
		limit         int
		want          string
	}{
		{"", "", 100, "A a a/1 a/10 a/2 b c ä"},
		{"", "", 3, "A a a/1"},
		{"", "a/1", 3, "a/10 a/2 b"},
		{"", "a/11", 2, "a/2 b"},
		{"a/", "", 100, "a/1 a/10 a/2"},
		{"a/", "a/10", 100, "a/2"},
		{"a/", "b", 100, ""},
		{"x", "", 100, ""},
		{"", "ä", 100, ""},
	} {
		var got []string
		for _, l := range table.Locks(c.prefix, c.after, c.limit, 1) {
			got = append(got, l.Name)
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("prefix %q after %q limit %d: %q, expected %q", c.prefix, c.after, c.limit, s, c.want)
		}
	}
}

// TestLockLimit lists at most so many holders and waiters, and counts them all.
func TestLockLimit(t *testing.T) {
	table := newTable(testSettings())
	for i := range 9 {
		a := &command.Acquire{Name: "pool", Key: benchKey(i), Slots: 4, Ttl: 1e9, Wait: 1e9}
		table.Apply(0, []*command.Command{command.FromAcquire(a)})
	}
	l, ok := table.Lock("pool", 3)
	if !ok || len(l.Holders) != 3 || len(l.Waiters) != 3 || l.NumHolders != 4 || l.NumWaiters != 5 {
		t.Errorf("%+v", l)
	}
	if _, ok := table.Lock("other", 3); ok {
		t.Error("an unknown lock was found")
	}
}

// TestKeysAreNotShown formats all that the table says and finds no key in it.
func TestKeysAreNotShown(t *testing.T) {
	table := newTable(testSettings())
	secret := benchKey(424242)
	cmds := []*command.Command{
		command.FromOpenSession(&command.OpenSession{Id: pad("s1"), Ttl: 1e9}),
		command.FromAcquire(&command.Acquire{Name: "db", Key: secret, Session: pad("s1"), Owner: "ann"}),
		acquireCommand("db", secret[:31]+"3", 0),
		command.FromAcquire(&command.Acquire{Name: "", Key: secret}),
	}
	outs, events := table.Apply(0, cmds)
	l, _ := table.Lock("db", 3)
	id, _ := ParseKey(pad("s1"))
	s, _ := table.Session(id, 100)
	said := fmt.Sprintf("%v %+v %#v %v %+v %#v %+v %+v", outs, outs, outs, events, events, events, l, s)
	if strings.Contains(said, secret[:31]) {
		t.Errorf("a key is shown: %s", said)
	}
	if !slices.ContainsFunc(events, func(e Event) bool { return e.Key.Reveal() == secret }) {
		t.Error("the event does not carry its key")
	}
}

// TestNewest is about the newest of the holds that last, wherever it is among them.
func TestNewest(t *testing.T) {
	table := newTable(testSettings())
	acquire := func(key int, session string, ttl int64) {
		a := &command.Acquire{Name: "a", Key: benchKey(key), Mode: Shared, Session: session, Ttl: ttl}
		table.Apply(0, []*command.Command{command.FromAcquire(a)})
	}
	want := func(now Time, token uint64) {
		t.Helper()
		if got := table.Newest("a", now); got != token {
			t.Errorf("token %d at %d, want %d", got, now, token)
		}
	}
	want(0, 0)
	table.Apply(0, []*command.Command{command.FromOpenSession(&command.OpenSession{Id: benchKey(9), Ttl: 20e9})})
	acquire(1, benchKey(9), 0)
	want(0, 1)
	acquire(2, "", 5e9)
	acquire(3, benchKey(9), 0) // again, with the token of its first hold
	want(0, 2)
	want(5e9-1, 2)
	want(5e9, 1)
	want(20e9, 0)
}
