package node

import (
	"errors"
	"testing"
	"testing/synctest"
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
