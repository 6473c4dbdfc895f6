package node

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

// T11, T15: a leader that was stopped for a while, and has answers from before in its hands, must ask anew: whether a majority knows no
// newer term.
func TestConfirmAsksForTerms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openTrio(t)
		name, leader := c.leader()
		term := leader.raft.CurrentTerm()
		if err := leader.askTerms(term); err != nil {
			t.Error(err)
		}
		if err := leader.askTerms(term - 1); !errors.Is(err, ErrUnavailable) {
			t.Errorf("the others know a newer term: %v", err)
		}
		if err := leader.confirm(term - 1); !errors.Is(err, ErrUnavailable) {
			t.Errorf("of an earlier term: %v", err)
		}
		c.isolate(c.members[name], true)
		if err := leader.askTerms(term); !errors.Is(err, ErrUnavailable) {
			t.Errorf("nobody answers: %v", err)
		}
		c.isolate(c.members[name], false)
	})
}

// S13: the index and the time of a read are of one moment, however long it takes to confirm. A reader that has applied no more than that would
// take a lease for expired that was renewed meanwhile.
func TestReadIsOfOneMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openTrio(t)
		_, leader := c.leader()
		o := mustAcquire(t, leader, acquireCmd("db", "a", 0), locktable.Granted)
		type reading struct {
			at  *command.ReadIndexAt
			err error
		}
		got := make(chan reading, 1)
		leader.confirming.turn.Lock()
		go func() {
			at, err := leader.readIndex()
			got <- reading{at, err}
		}()
		time.Sleep(20 * time.Second) // virtual; others read meanwhile, and the lease goes on
		renew := command.FromRenew(&command.Renew{Name: "db", Key: keyOf("a"), Ttl: int64(30 * time.Second)})
		if r, err := leader.Propose(t.Context(), renew); err != nil || r.Code != locktable.Renewed {
			t.Fatalf("code %d, %v", r.Code, err)
		}
		renewed := leader.fsm.applied.Load()
		time.Sleep(20 * time.Second) // virtual
		leader.confirming.turn.Unlock()
		r := <-got
		if r.err != nil {
			t.Fatal(r.err)
		}
		if r.at.GetIndex() < renewed && locktable.Time(r.at.GetNow()) >= o.Deadline {
			t.Errorf("a reader is to apply entry %d, before the renewal at %d, and to take the time for %v: the lease ended at %v before it",
				r.at.GetIndex(), renewed, locktable.Time(r.at.GetNow()), o.Deadline)
		}
	})
}

// Who asks while a round is under way is served by the next one, which began after its call.
func TestRoundsAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rounds{turn: make(turn, 1)}
		asked := 0
		release := make(chan struct{})
		ask := func() error {
			asked++
			<-release
			return nil
		}
		done := make(chan error, 10)
		for range 10 {
			go func() { done <- r.share(ask) }()
			synctest.Wait()
		}
		close(release)
		for range 10 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if asked != 2 {
			t.Errorf("%d rounds for ten that came one after the other", asked)
		}
	})
}
