package locktable

import (
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
)

// claimOf returns what key stands for on the lock of that name ("": on whichever lock or task), or nil; of a set, its lead.
func (t *Table) claimOf(name, key string) *claim {
	k, ok := ParseKey(key)
	if !ok {
		return nil
	}
	c := t.keys.get(k)
	if c == nil || (name != "" && (c.lock.isTask || !c.on(name))) {
		return nil
	}
	return c
}

// inSession runs do as a numbered request of the session, if one is named. The claim, where there is one, must belong to it.
func (t *Table) inSession(id string, q request, c *claim, do func() Outcome) Outcome {
	if id == "" {
		return do()
	}
	s := t.sharedSession(id)
	if s == nil {
		return t.noSession(id)
	}
	return t.numbered(s, q, func() Outcome {
		if c != nil && c.session != s {
			return Outcome{Code: NotHeld}
		}
		return do()
	})
}

func (t *Table) release(r *command.Release) Outcome {
	if r.GetRequest() != 0 && r.GetSession() == "" {
		return invalid(errRequest)
	}
	c := t.claimOf(r.GetName(), r.GetKey())
	if c == nil && r.GetSession() == "" {
		return t.notHeld(r.GetKey())
	}
	q := request{number: r.GetRequest(), op: opRelease, key: r.GetKey()}
	return t.inSession(r.GetSession(), q, c, func() Outcome {
		if c == nil {
			return t.notHeld(r.GetKey())
		}
		return Outcome{Code: Released, Released: t.giveUp(c)}
	})
}

func (t *Table) renew(r *command.Renew) Outcome {
	if err := checkRenewal(t.settings, r.GetTtl(), r.GetSession(), r.GetRequest()); err != nil {
		return invalid(err)
	}
	c := t.claimOf(r.GetName(), r.GetKey())
	q := request{number: r.GetRequest(), op: opRenew, key: r.GetKey()}
	return t.inSession(r.GetSession(), q, c, func() Outcome {
		if c == nil {
			return t.notHeld(r.GetKey())
		}
		return t.renewHold(c, time.Duration(r.GetTtl()))
	})
}

// renewHold renews the session that c lives in.
func (t *Table) renewHold(c *claim, ttl time.Duration) Outcome {
	if c.waiting() {
		return Outcome{Code: NotHeld}
	}
	var o Outcome
	if c.session != nil {
		t.touch(c.lock)
		c.attachment = 0
		o = t.renewShared(c.session, ttl)
	} else {
		o = t.renewPrivate(c, ttl)
	}
	o.Token = c.token
	o.Mode, o.Slots = c.kind()
	o.Ask = t.askOfHold(c)
	if x := t.taskOf(c.lock); x != nil {
		o.Task = t.taskInfo(x)
	}
	return o
}

func (t *Table) abandon(a *command.Abandon) Outcome {
	c := t.claimOf("", a.GetKey())
	if c == nil || a.GetAttachment() == 0 || c.attachment != a.GetAttachment() {
		return Outcome{Code: Done}
	}
	if c.waiting() {
		t.drop(c, EventCancelled, keepKey)
	} else {
		t.endHold(c, EventReleased, keepKey)
	}
	t.serve(c)
	return Outcome{Code: Done}
}

// poll starts the grace of waiters anew.
func (t *Table) poll(p *command.Poll) {
	for _, k := range p.GetKeys() {
		if c := t.claimOf("", k); c != nil && c.waiting() {
			t.touch(c.lock)
			t.grace(c)
		}
	}
}
