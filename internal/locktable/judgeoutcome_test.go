package locktable

import (
	"fmt"
	"slices"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
)

// How the judge looks at outcomes and at the state that follows from the history.

// outcome judges the answer to one command after the entry's events.
func (j *judge) outcome(c *command.Command, o Outcome, events []Event) error {
	if err := j.taskOutcome(c, o, events); err != nil {
		return err
	}
	switch op := c.GetOp().(type) {
	case *command.Command_Acquire:
		return j.acquired(op.Acquire, o, events)
	case *command.Command_Renew:
		if s := j.sessions[op.Renew.GetSession()]; s != nil && o.Code == Renewed && op.Renew.GetRequest() != 0 {
			// Perhaps an old answer, to a question about a key that stands for something else by now.
			s.deadline = o.Deadline
		} else if k, ok := ParseKey(op.Renew.GetKey()); ok && o.Code == Renewed {
			return j.renewed(k, op.Renew.GetName(), o, events, op.Renew.GetRequest() != 0)
		}
	case *command.Command_RenewSession:
		if s := j.sessions[op.RenewSession.GetId()]; s != nil && o.Code == Renewed {
			s.deadline = o.Deadline
		} else if k, ok := ParseKey(op.RenewSession.GetId()); ok && o.Code == Renewed {
			j.renewHolds(k, o.Deadline)
		}
	case *command.Command_EndSession:
		if o.Code == Ended {
			delete(j.sessions, op.EndSession.GetId())
		}
	case *command.Command_OpenSession:
		if o.Code == Opened && j.sessions[op.OpenSession.GetId()] == nil {
			j.sessions[op.OpenSession.GetId()] = &jSession{o.Deadline}
		}
	}
	return nil
}

func (j *judge) acquired(a *command.Acquire, o Outcome, events []Event) error {
	k, _ := ParseKey(a.GetKey())
	h := j.holdOf(k)
	switch o.Code {
	case Granted:
		if h == nil && !mentions(events, k) {
			return fmt.Errorf("granted without an event")
		}
		if h != nil && h.token != o.Token && !mentions(events, k) {
			return fmt.Errorf("S10: token %d, the hold has %d", o.Token, h.token)
		}
		if h != nil && !mentions(events, k) {
			j.duplicates++
		}
		if o.Deadline < j.now {
			return fmt.Errorf("granted until the past")
		}
	case Waiting:
		for x, p := range j.place {
			if x.key != k {
				continue
			}
			p.waitUntil = Never
			if a.GetWait() >= 0 {
				p.waitUntil = j.now.Add(time.Duration(a.GetWait()))
			}
		}
	case Held:
		if h != nil && !mentions(events, k) && a.GetRequest() == 0 {
			return fmt.Errorf("S10: refused a key that holds")
		}
	}
	return nil
}

func mentions(events []Event, k Key) bool {
	return slices.ContainsFunc(events, func(e Event) bool { return e.Key == k })
}

func (j *judge) renewed(k Key, lock string, o Outcome, events []Event, numbered bool) error {
	h := j.holdOf(k)
	session := j.sessionOf[k]
	if h != nil {
		session = h.session
	}
	if s := j.sessions[session]; s != nil {
		s.deadline = o.Deadline
	}
	if h == nil || h.lock != lock && h.set == 0 && lock != "" {
		if !mentions(events, k) && !numbered {
			return fmt.Errorf("S4: renewed what was not held")
		}
		return nil
	}
	j.renewHolds(k, o.Deadline)
	return nil
}

// deadSessions checks S11: a session that is over has neither holds nor places.
func (j *judge) deadSessions() error {
	for _, h := range j.live {
		if h.session != "" && j.sessions[h.session] == nil {
			return fmt.Errorf("S11: a dead session still holds %q", h.lock)
		}
	}
	for _, p := range j.place {
		if p.session != "" && j.sessions[p.session] == nil {
			return fmt.Errorf("S11: a dead session still waits for %q", p.lock)
		}
	}
	return nil
}

func (j *judge) spend(k Key) { j.spent = append(j.spent, jSpent{k, j.now}) }

// stillSpent tells whether k must be remembered as spent. It errs on the side of no: a place given up spends a key too.
func (j *judge) stillSpent(k Key) bool {
	for i := len(j.spent) - 1; i >= 0 && len(j.spent)-i <= j.maxSpent/4; i-- {
		if j.spent[i].key == k {
			return j.now.Sub(j.spent[i].at) < j.retention
		}
	}
	return false
}

// exclusion checks S1.
func (j *judge) exclusion() error {
	for k, a := range j.live {
		same := 0
		for l, b := range j.live {
			if b.lock != a.lock || k == l { // another lock, or itself
				continue
			}
			same++
			if a.slots != b.slots {
				return fmt.Errorf("S1: %q is held with different slots", a.lock)
			}
			if a.slots == 0 && (a.mode == Exclusive || b.mode == Exclusive) && a.token != b.token {
				return fmt.Errorf("S1: %q has two conflicting holders", a.lock)
			}
		}
		if a.slots > 0 && same+1 > int(a.slots) {
			return fmt.Errorf("S1: %q has more holders than permits", a.lock)
		}
	}
	return nil
}
