package node

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

func setCmd(key string, wait time.Duration, names ...string) *command.Acquire {
	a := acquireCmd("", key, wait)
	for _, n := range names {
		a.Set = append(a.Set, &command.SetMember{Name: n})
	}
	return a
}

// S10: sets, asking, breaking and handing over may be repeated through any node, also after the leader has failed, without a second
// effect; and every node remembers the same past holds.
func TestRepeatedThroughAnyNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openTrio(t)
		name, _ := c.leader()
		f := c.followers()
		c.atLevel2()
		set := mustAcquire(t, f[0], setCmd("s", 0, "a", "b"), locktable.Granted)
		place := waitWith(t.Context(), f[1], ownedBy(acquireCmd("a", "w", time.Hour), "worker"))
		time.Sleep(time.Second) // virtual
		ask := command.FromAsk(&command.Ask{Name: "a", Owner: "ops", Reason: "now", Within: int64(time.Minute)})
		mustPropose(t, f[0], ask, locktable.Done)

		c.isolate(c.members[name], true)
		again := mustAcquire(t, f[1], setCmd("s", 0, "a", "b"), locktable.Granted)
		if again.Token != set.Token {
			t.Errorf("token %d, and %d through another node after the leader failed", set.Token, again.Token)
		}
		mustPropose(t, f[1], ask, locktable.Done)
		renewed := mustPropose(t, f[1], command.FromRenew(&command.Renew{Name: "b", Key: keyOf("s")}), locktable.Renewed)
		if renewed.Ask == nil || renewed.Ask.Reason != "now" {
			t.Errorf("the holder is told %+v", renewed.Ask)
		}
		unanswered(t, place)

		brk := command.FromBreak(&command.Break{Name: "b", UpToToken: set.Token, Owner: "ops", Reason: "it hangs"})
		mustPropose(t, f[0], brk, locktable.Released)
		next := receive(t, place)
		if next.err != nil || next.out.Code != locktable.Granted || next.out.Token <= set.Token {
			t.Fatalf("code %d, token %d, %v", next.out.Code, next.out.Token, next.err)
		}
		mustPropose(t, f[1], brk, locktable.NotHeld) // and does not hit the next holder
		mustPropose(t, f[1], command.FromRenew(&command.Renew{Name: "a", Key: keyOf("s")}), locktable.Broken)
		mustAcquire(t, f[0], acquireCmd("a", "w", time.Hour), locktable.Granted)

		successor := waitWith(t.Context(), f[0], ownedBy(acquireCmd("a", "x", time.Hour), "successor"))
		time.Sleep(time.Second) // virtual
		hand := command.FromHandOver(&command.HandOver{Name: "a", Key: keyOf("w"), To: "successor"})
		mustPropose(t, f[1], hand, locktable.Released)
		if s := receive(t, successor); s.err != nil || s.out.Code != locktable.Granted {
			t.Fatalf("code %d, %v", s.out.Code, s.err)
		}
		mustPropose(t, f[0], hand, locktable.NotHeld)

		c.isolate(c.members[name], false)
		time.Sleep(5 * time.Second) // virtual
		for name, n := range c.nodes {
			n.ReadStale(func(tb *locktable.Table, _ uint64, _ time.Duration) {
				var ends []locktable.EventKind
				for _, p := range tb.History("a", 10) {
					ends = append(ends, p.How)
				}
				if len(ends) != 2 || ends[0] != locktable.EventHandedOver || ends[1] != locktable.EventBroken {
					t.Errorf("%s remembers %v", name, ends)
				}
			})
		}
	})
}

func waitWith(ctx context.Context, n *Node, a *command.Acquire) <-chan answer {
	got := make(chan answer, 1)
	go func() {
		o, err := n.Acquire(ctx, a, Slice{})
		got <- answer{o, err}
	}()
	synctest.Wait()
	return got
}

func ownedBy(a *command.Acquire, owner string) *command.Acquire {
	a.Owner = owner
	return a
}
