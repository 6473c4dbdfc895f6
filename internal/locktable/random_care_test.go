package locktable

import (
	"fmt"
	"reflect"
	"slices"

	"github.com/doubledutch-lock/doubledutch/internal/command"
)

func sameAsk(a, b *AskInfo) bool { return a == b || a != nil && b != nil && *a == *b }

// sameCareViews compares past holds, expected waits, chains and the calendar.
func (w *world) sameCareViews() error {
	for _, name := range testLocks {
		if a, b := w.t.History(name, 3), w.m.History(name, 3); !slices.Equal(a, b) {
			return fmt.Errorf("past holds of %q: %+v, the model says %+v", name, a, b)
		}
		a, aok := w.t.Expected(name)
		b, bok := w.m.Expected(name)
		if a != b || aok != bok {
			return fmt.Errorf("expected wait for %q: %v %v, the model says %v %v", name, a, aok, b, bok)
		}
		for _, limit := range []int{1, 2, 10} {
			if a, b := w.t.Explain(name, limit), w.m.Explain(name, limit); !reflect.DeepEqual(a, b) {
				return fmt.Errorf("chain of %q: %+v, the model says %+v", name, a, b)
			}
		}
	}
	for _, at := range []Time{0, w.t.now / 2, w.t.now, w.t.now + 1e9} {
		a, aok := w.t.Calendar(at)
		b, bok := w.m.Calendar(at)
		if a != b || aok != bok {
			return fmt.Errorf("calendar at %d: %d %v, the model says %d %v", at, a, aok, b, bok)
		}
	}
	return nil
}

// plainBytes checks that a table of level 1 is written as a server of version 1 writes it.
func (w *world) plainBytes() error {
	for _, r := range w.snaps {
		r.s.Close()
	}
	w.snaps = nil
	data, err := snapshotBytes(w.t, 10)
	if err != nil {
		return err
	}
	for _, r := range records(data) {
		if h := r.GetHeader(); h != nil && h.GetVersion() != w.m.level {
			return fmt.Errorf("the snapshot has version %d, the model says %d", h.GetVersion(), w.m.level)
		}
		if w.m.level == 1 && newer(r) {
			return fmt.Errorf("nothing of version 2 was used, but the snapshot has %v", r)
		}
	}
	return nil
}

// newer tells whether a record has anything that version 1 does not know.
func newer(r *command.Record) bool {
	if r.GetHistory() != nil || r.GetBroken() != nil || len(r.GetHeader().GetCalendar()) > 0 || r.GetLock().GetAsk() != nil {
		return true
	}
	t := r.GetTrailer()
	if t.GetHistory()+t.GetBroken()+t.GetTasks() > 0 {
		return true
	}
	return slices.ContainsFunc(r.GetLock().GetHolders(), func(c *command.Claim) bool { return c.GetFirst() != nil || c.GetSet() != nil })
}
