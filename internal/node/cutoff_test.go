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

// L1: elections upon elections, with a leader in between for whom no entry gets through, end no wait later than its node's own clock says.
func TestWaitThatClusterTimeDoesNotEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openTrio(t)
		cut := c.followers()[0]
		mustAcquire(t, cut, acquireCmd("db", "a", 0), locktable.Granted)
		start := time.Now()
		got := acquireLater(t.Context(), cut, "b") // for a minute
		stop, all := make(chan struct{}), func(apart bool) {
			for _, addr := range c.members {
				c.isolate(addr, apart)
			}
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			// Apart for 2 s, which is not long enough to be taken for cut off, and together until somebody leads.
			for apart := true; ; apart = !apart {
				all(apart)
				select {
				case <-time.After(map[bool]time.Duration{true: 2 * time.Second, false: 1500 * time.Millisecond}[apart]):
				case <-stop:
					return
				}
			}
		}()
		a := receive(t, got)
		close(stop)
		<-done
		if took, most := time.Since(start), time.Minute+time.Minute/clockAllowance+leaderPatience; took > most {
			t.Errorf("answered after %v (%d, %v), and not within %v", took, a.out.Code, a.err, most)
		}
		all(false)
	})
}

// A leader whose entries do not get through is no leader to those who wait with it.
func TestNothingAppliedIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openTrio(t)
		_, leader := c.leader()
		mustAcquire(t, leader, acquireCmd("db", "a", 0), locktable.Granted)
		if leader.isCutOff() {
			t.Error("it has just applied something")
		}
		leader.fsm.appliedAt.Store(int64(time.Since(leader.fsm.began) - leaderPatience - 1))
		if !leader.isCutOff() || !leader.isLeader() {
			t.Error("nothing was applied for too long")
		}
	})
}
