package node

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

func anyEvent(*locktable.Event) bool { return true }

func onLock(name string) func(*locktable.Event) bool {
	return func(e *locktable.Event) bool { return e.Lock == name }
}

func TestEventIDsAreReadAsWritten(t *testing.T) {
	for _, id := range []EventID{{}, {Index: 7, N: 1}, {Index: 1 << 60, N: 1<<32 - 1}} {
		if got, err := ParseEventID(id.String()); err != nil || got != id {
			t.Errorf("%v became %v, %v", id, got, err)
		}
	}
	for _, s := range []string{"", "7", "7-", "-7", "7-1-1", "a-b", "7-4294967296"} {
		if id, err := ParseEventID(s); err == nil {
			t.Errorf("%q became %v", s, id)
		}
	}
}

// Every node tells the same events under the same ids, so that a reader can go on with another one.
func TestReaderGoesOnWithAnotherNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openTrio(t)
		f := c.followers()
		first, err := f[0].Events(t.Context(), nil, onLock("db"))
		if err != nil {
			t.Fatal(err)
		}
		for i := range 5 {
			mustAcquire(t, f[1], acquireCmd("db", fmt.Sprint("k", i), 0), locktable.Granted)
			mustAcquire(t, f[1], acquireCmd("other", fmt.Sprint("o", i), 0), locktable.Granted)
			mustRelease(t, f[1], "db", fmt.Sprint("k", i))
			mustRelease(t, f[1], "other", fmt.Sprint("o", i))
		}
		read := func(e *Events, n int) (kinds []locktable.EventKind) {
			for len(kinds) < n {
				got, err := e.Next(t.Context(), 3, time.Second)
				if err != nil || len(got) == 0 {
					t.Fatal(kinds, err)
				}
				for _, g := range got {
					kinds = append(kinds, g.Kind)
				}
			}
			return kinds
		}
		before := read(first, 4)
		at := first.At()
		second, err := f[1].Events(t.Context(), &at, onLock("db"))
		if err != nil {
			t.Fatal(err)
		}
		after := read(second, 10-len(before))
		for i, k := range append(before, after...) {
			if want := []locktable.EventKind{locktable.EventGranted, locktable.EventReleased}[i%2]; k != want {
				t.Errorf("event %d is of kind %d, not %d", i, k, want)
			}
		}
		if got, err := second.Next(t.Context(), 3, time.Second); len(got) != 0 || err != nil {
			t.Errorf("%d more, %v", len(got), err)
		}
		// An id that no log entry has got yet.
		far := EventID{Index: at.Index + 1_000_000}
		lost, err := f[1].Events(t.Context(), &far, anyEvent)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := lost.Next(t.Context(), 3, time.Second); !errors.Is(err, ErrMissed) {
			t.Errorf("an id of another log: %v", err)
		}
	})
}

func TestSlowReaderIsToldWhatItMissed(t *testing.T) {
	var j journal
	j.begin(10)
	batch := make([]locktable.Event, 100)
	for i := range uint64(journalLength) / 100 * 2 {
		j.note(11+i, 0, 0, batch)
	}
	if _, next, _, err := j.read(EventID{Index: 12}, 10, anyEvent); !errors.Is(err, ErrMissed) || !next.After(EventID{Index: 12}) {
		t.Fatalf("next %v, %v", next, err)
	} else if got, _, _, err := j.read(next, 1, anyEvent); err != nil || len(got) != 1 || !got[0].ID.After(next) {
		t.Errorf("%d events, %v", len(got), err)
	}
	// From before the journal began.
	j.begin(1000)
	if _, _, _, err := j.read(EventID{Index: 999, N: 1}, 10, anyEvent); !errors.Is(err, ErrMissed) {
		t.Error(err)
	}
	if got, _, more, err := j.read(EventID{Index: 1000, N: ^uint32(0)}, 10, anyEvent); err != nil || len(got) != 0 || more == nil {
		t.Error(got, err)
	}
}

// The events in order, none twice and none missing, whatever the size of the steps.
func TestJournalInSteps(t *testing.T) {
	var j journal
	j.begin(0)
	n := 0
	for index := range uint64(3000) {
		var events []locktable.Event
		for range index % 11 {
			n++
			events = append(events, locktable.Event{Token: uint64(n)})
		}
		j.note(index+1, 0, 0, events)
	}
	for _, step := range []int{1, 7, 1000, 1 << 20} {
		at, want := j.since, uint64(n-len(j.ring))
		for {
			got, next, _, err := j.read(at, step, func(e *locktable.Event) bool { return e.Token%3 > 0 })
			if err != nil {
				t.Fatal(err)
			}
			at = next
			if len(got) == 0 {
				break
			}
			for _, e := range got {
				if want++; want%3 == 0 {
					want++
				}
				if e.Token != want {
					t.Fatalf("step %d: event %d, not %d", step, e.Token, want)
				}
			}
		}
	}
}

func TestReaderWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openTrio(t)
		f := c.followers()
		r, err := f[0].Events(t.Context(), nil, onLock("db"))
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if got, err := r.Next(t.Context(), 1, 10*time.Second); len(got) != 0 || err != nil || time.Since(start) != 10*time.Second {
			t.Errorf("%d events, %v, after %v", len(got), err, time.Since(start))
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := r.Next(ctx, 1, time.Second); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		told := make(chan error, 1)
		go func() {
			_, err := r.Next(t.Context(), 1, time.Hour)
			told <- err
		}()
		synctest.Wait()
		f[0].StopWaiting()
		if err := <-told; !errors.Is(err, ErrStopping) {
			t.Error(err)
		}
	})
}

// However long the texts of events are, the journal keeps no more of them than it may: who reads too late is told so.
func TestJournalBoundsTheTextsOfItsEvents(t *testing.T) {
	var j journal
	j.begin(0)
	const long = journalText / 100
	text := string(make([]byte, long))
	held := func() (n int) {
		for i := range j.ring {
			n += textOf(&j.ring[i].Event)
		}
		return n
	}
	for i := range uint64(3 * journalLength) {
		e := locktable.Event{Kind: locktable.EventReleased, Lock: "db"}
		if i%1000 < 150 { // bursts, with quiet times in which the emptied events are overwritten
			e.Reason = text
		}
		j.note(i+1, 0, 0, []locktable.Event{e})
		if j.text > journalText {
			t.Fatalf("%d bytes of texts after %d events", j.text, i+1)
		}
	}
	if got := held(); got != j.text {
		t.Errorf("%d bytes of texts are counted as %d", got, j.text)
	}
	after := j.since
	if _, _, _, err := j.read(EventID{Index: after.Index - 1, N: 1}, 1, anyEvent); !errors.Is(err, ErrMissed) {
		t.Errorf("reading behind what is kept: %v", err)
	}
	n := uint64(0)
	for {
		out, next, _, err := j.read(after, 256, anyEvent)
		if err != nil {
			t.Fatal(err)
		}
		if len(out) == 0 {
			break
		}
		for i := range out {
			if n++; out[i].ID.Index != j.since.Index+n || out[i].Lock != "db" {
				t.Fatalf("event %d is %v on lock %q", n, out[i].ID, out[i].Lock)
			}
		}
		after = next
	}
	if want := uint64(3*journalLength) - j.since.Index; n != want || n == 0 {
		t.Errorf("read %d events, not %d", n, want)
	}
}
