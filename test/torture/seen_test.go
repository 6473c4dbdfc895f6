//go:build linux

package torture

import (
	"fmt"
	"time"
)

// seen is what a run has seen.
type seen struct {
	ops, unanswered, retried, replays        int
	grants, expiries, queueGrants, sameGrant int
	reads, waits, renewals                   int
	elections, faults, kinds                 int
	written, late                            int
	lin                                      *linearity
}

// take counts what is in a history.
func take(h *history, lin *linearity, load *workload) *seen {
	s := &seen{lin: lin, ops: len(h.ops), written: load.fence.taken, late: load.fence.late}
	known := study(h.ops)
	for _, o := range h.ops {
		switch f := o.fate(); {
		case o.Replay:
			s.replays++
		case f == unknown:
			s.unanswered++
		case o.Kind == read && f == done:
			s.reads++
		case o.Kind == acquire && o.Wait > 0:
			s.waits++
			if f == done && o.Waited > 0 {
				s.queueGrants++
			}
		case o.Kind == renew && f == done:
			s.renewals++
		}
	}
	for _, l := range known.byKey {
		if len(l.granted) > 0 {
			s.grants++
			s.sameGrant += len(l.granted) - 1
		}
		if len(l.asked) > 1 {
			s.retried++
		}
		if expired(l, known.locks[l.lock]) {
			s.expiries++
		}
	}
	return s
}

// expired tells whether a hold that was granted certainly ended by itself: somebody else was granted the lock later, although
// nobody had given it up.
func expired(l *life, ops []*op) bool {
	if len(l.granted) == 0 || l.leaving != never {
		return false
	}
	for _, o := range ops {
		if o.Kind == acquire && o.fate() == done && o.Token > l.token() {
			return true
		}
	}
	return false
}

func (s *seen) String() string {
	return fmt.Sprintf(`%d requests (%d not answered, %d replayed), %d keys asked for more than once
%d grants, %d answered with the same grant again, %d from the queue (of %d waits), %d expiries, %d renewals, %d reads
%d writes taken by the resource, %d late ones refused
%d elections, %d faults of %d kinds with effect
%d locks checked for linearizability, %d steps, at most %d for one lock, longest %v`,
		s.ops, s.unanswered, s.replays, s.retried,
		s.grants, s.sameGrant, s.queueGrants, s.waits, s.expiries, s.renewals, s.reads,
		s.written, s.late, s.elections, s.faults, s.kinds,
		s.lin.locks, s.lin.ops, s.lin.most, s.lin.longest.Round(time.Millisecond))
}

// tooLittle says what a run of so many minutes ought to have seen more of. Nothing of this depends on how fast the machine is,
// but for orders of magnitude.
func (s *seen) tooLittle(minutes float64, a *arena) (all []string) {
	for _, least := range []struct {
		what      string
		have      int
		perMinute float64
	}{
		{"requests", s.ops, 2000},
		{"elections", s.elections, 4},
		{"expiries", s.expiries, 20},
		{"grants from the queue", s.queueGrants, 40},
		{"requests without an answer", s.unanswered, 20},
		{"repetitions answered with the same grant", s.sameGrant, 20},
		{"replayed requests", s.replays, 10},
		{"late writes refused", s.late, 1},
		{"effective faults", s.faults, faultsPerMinute},
	} {
		if want := int(least.perMinute * minutes); least.have < want {
			all = append(all, fmt.Sprintf("the run saw too little: %d %s, not %d", least.have, least.what, want))
		}
	}
	if minutes < 1 {
		return all
	}
	for name, t := range a.tally {
		if t.effective == 0 {
			all = append(all, fmt.Sprintf("the run saw too little: %q had no effect in %d trials", name, t.tried))
		}
	}
	return all
}
