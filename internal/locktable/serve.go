package locktable

// Looking at queues again, after something has ended.

// serve looks at the queues of all locks of c, which has left them. Everything that ends a hold or a place calls it once,
// after the change.
func (t *Table) serve(c *claim) {
	if c.set() == nil {
		t.look(c.lock) // as if it were alone on the list
	} else {
		t.list(c)
	}
	if len(t.toLookAt) > 0 {
		t.settle()
	}
}

// list puts the locks of c on the list of locks to look at, in the order of their names.
func (t *Table) list(c *claim) {
	if set := c.set(); set != nil {
		for _, m := range set.members {
			t.listLock(m.lock)
		}
		return
	}
	t.listLock(c.lock)
}

func (t *Table) listLock(l *lock) {
	if !l.listed {
		l.listed = true
		t.toLookAt = append(t.toLookAt, l)
	}
}

// settle works off the list of locks to look at. What it grants may put further locks on the list; each of them is due to a
// set that has gone from its queues, so there is an end.
func (t *Table) settle() {
	for i := 0; i < len(t.toLookAt); i++ {
		l := t.toLookAt[i]
		l.listed = false
		t.look(l)
	}
	clear(t.toLookAt)
	t.toLookAt = t.toLookAt[:0]
}

// look grants l to the waiters that have become eligible, from the head of the queue, and forgets l if it is idle. Tasks have
// rules of their own.
func (t *Table) look(l *lock) {
	if l.isTask {
		t.serveTask(l)
		return
	}
	for w := t.firstAlive(l); w != nil && t.eligible(w); w = t.firstAlive(l) {
		t.grantWaiter(w)
	}
	t.tidy(l)
}

// leaveQueue takes c out of the queue that it stands in.
func (t *Table) leaveQueue(c *claim) {
	c.lock.waiters.remove(c)
	t.counts.Waiters--
	if c.session != nil {
		c.session.places--
	}
}

// grantTwins grants the places that the session of w, which has just come to hold its lock, has in the queue in the same mode.
func (t *Table) grantTwins(w *claim) {
	if w.session == nil || w.session.places == 0 || w.lock.slots > 0 {
		return
	}
	for _, c := range w.session.placesOn(w.lock) {
		if c.mode == w.mode && c.set() == nil {
			t.leaveQueue(c)
			t.hold(c, w.token)
		}
	}
}
