package node

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

// TestWaiterOfACutOffNodeIsSentAway: a node that hears from no leader cannot know how a wait ends. Its clients are not left
// hanging, and find their places at another node.
func TestWaiterOfACutOffNodeIsSentAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openTrio(t)
		f := c.followers()
		cut, other := f[0], f[1]
		mustAcquire(t, other, acquireCmd("db", "a", 0), locktable.Granted)
		first := acquireLater(t.Context(), cut, "b")
		time.Sleep(time.Second) // virtual
		second := acquireLater(t.Context(), other, "c")
		time.Sleep(time.Second)
		unanswered(t, first)

		start := time.Now()
		c.isolate(cut.transport.Addr(), true)
		if a := <-first; !errors.Is(a.err, ErrUnknown) || errors.Is(a.err, ErrUnavailable) {
			t.Errorf("code %d, error %v", a.out.Code, a.err)
		}
		if took := time.Since(start); took > leaderPatience+2*contactCheck {
			t.Errorf("it took %v", took)
		}
		unanswered(t, second)

		again := acquireLater(t.Context(), other, "b")
		time.Sleep(time.Second)
		mustRelease(t, other, "db", "a")
		if a := <-again; a.err != nil || a.out.Code != locktable.Granted {
			t.Errorf("code %d, error %v", a.out.Code, a.err)
		}
		unanswered(t, second)
		c.isolate(cut.transport.Addr(), false)
		mustRelease(t, other, "db", "b")
		if a := <-second; a.err != nil || a.out.Code != locktable.Granted {
			t.Errorf("code %d, error %v", a.out.Code, a.err)
		}
	})
}
