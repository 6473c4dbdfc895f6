package node

import (
	"testing"

	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

// TestEndOfAnEarlierPlaceIsNoNews: when the answer of a leader was lost, the acquire is sent to the next one. Had the wait run
// out meanwhile, it got a second place there: the end of the first one must not be told, or the client is told that it got
// nothing and is granted the lock later.
func TestEndOfAnEarlierPlaceIsNoNews(t *testing.T) {
	key, _ := locktable.ParseKey(keyOf("a"))
	ends := func(kind locktable.EventKind) []locktable.Event {
		return []locktable.Event{{Kind: kind, Key: key, Attachment: 7}}
	}
	nobody := func(func(*locktable.Table)) { t.Error("the table was looked at") }
	for _, tt := range []struct {
		kind         locktable.EventKind
		at           locktable.Time
		before, told bool // whether it comes before the node learns of the place
	}{
		{locktable.EventTimedOut, 5, true, false},
		{locktable.EventTimedOut, 5, false, false},
		{locktable.EventTimedOut, 6, true, false},
		{locktable.EventGranted, 5, true, false},
		{locktable.EventGranted, 6, true, true},
		{locktable.EventGranted, 6, false, true},
		{locktable.EventTimedOut, 7, true, true},
		{locktable.EventTimedOut, 7, false, true},
	} {
		w := newWaiters()
		p := newWaiter(key, 7, "")
		w.park(p)
		if tt.before {
			w.tell(tt.at, ends(tt.kind))
		}
		w.queued(p, 6, nobody)
		if !tt.before {
			w.tell(tt.at, ends(tt.kind))
		}
		if told := len(p.ended) > 0; told != tt.told {
			t.Errorf("%+v: told %v", tt, told)
		}
	}
}
