package node

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

// A leader has taken a command of another node in and loses office before it is in the log. It does not pass it on: the other node has
// sent it to the next leader, its client has been told what came of it, and a second copy would be granted to nobody.
func TestForwardedCommandIsNotPassedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openTrio(t)
		name, old := c.leader()
		other := c.followers()[0]
		c.isolate(c.members[name], true)
		go func() { _, _ = old.Propose(t.Context(), acquireCmd2("first")) }() // occupies the log
		time.Sleep(10 * time.Millisecond)                                     // virtual; it still believes that it leads
		answer := make(chan *command.PeerResponse, 1)
		go func() {
			answer <- old.answer(t.Context(), other.self(), &command.PeerRequest{Op: &command.PeerRequest_Forward{
				Forward: &command.Forward{Commands: []*command.Command{acquireCmd2("second")}},
			}})
		}()
		time.Sleep(3 * time.Second) // virtual; somebody else leads
		c.isolate(c.members[name], false)
		outcomes := (<-answer).GetForwarded().GetOutcomes()
		if len(outcomes) != 1 || outcomes[0].GetFailure() != command.WireOutcome_UNAVAILABLE {
			t.Errorf("outcomes %v", outcomes)
		}
		time.Sleep(10 * time.Second) // virtual
		err := other.Read(t.Context(), func(table *locktable.Table, _ locktable.Time) {
			if i, known := table.Lock("second", 1); known {
				t.Errorf("the lock is there: %+v", i)
			}
		})
		if err != nil {
			t.Error(err)
		}
	})
}

func acquireCmd2(name string) *command.Command { return command.FromAcquire(acquireCmd(name, name, 0)) }
