package node

import (
	"errors"
	"testing"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

// TestWhatMayBeDoneIsNotRefused: a command that a leader may have received is told as unknown, and not as refused, when sending
// it again fails: the first copy may be committed yet.
func TestWhatMayBeDoneIsNotRefused(t *testing.T) {
	var ps proposals
	p := ps.get(command.FromAcquire(acquireCmd("db", "a", 0)))
	lost := errors.Join(ErrUnknown, errors.New("the answer is lost"))
	if rest := repeatable([]*proposal{p}, lost); len(rest) != 1 {
		t.Fatal("an acquire is not sent again")
	}
	p.finish(ErrUnavailable)
	if <-p.done; !errors.Is(p.err, ErrUnknown) {
		t.Errorf("told %v", p.err)
	}
	ps.put(p)

	if p = ps.get(p.cmd); p.unsure {
		t.Error("a new command is unsure")
	}
	p.finish(ErrUnavailable)
	if <-p.done; errors.Is(p.err, ErrUnknown) {
		t.Errorf("told %v", p.err)
	}
	ps.put(p)

	p = ps.get(command.FromAcquire(acquireCmd("db", "a", 0)))
	p.unsure, p.out = true, locktable.Outcome{Code: locktable.Granted}
	if p.finish(nil); p.err != nil {
		t.Errorf("told %v", p.err)
	}
}
