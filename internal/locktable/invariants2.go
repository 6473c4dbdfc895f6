package locktable

// care checks what came with version 2: past holds, broken keys, what holders are asked, the calendar.
func (c *checker) care() {
	t := c.t
	c.must(t.needs() <= t.level, "level %d with something of version %d", t.level, t.needs())
	c.pastHolds()
	c.broken()
	for i, a := range t.anchors {
		c.must(a.now >= 0 && a.now <= t.now && (i == 0 || a.now > t.anchors[i-1].now), "the calendar is out of order")
		c.must(a.wall >= 0 && a.wall <= maxCalendar, "the calendar is out of bounds")
	}
	c.must(len(t.anchors) <= maxAnchors, "%d readings of the calendar", len(t.anchors))
	c.must(len(t.anchors) < 2 || t.anchors[1].now.Add(HistoryRetention(t.settings)) > t.now, "the calendar goes back too far")
}

// ask checks what the holders of l are asked.
func (c *checker) ask(l *lock) {
	a := c.t.asks[l]
	if a == nil {
		return
	}
	c.asks++
	c.text += a.textBytes()
	c.mustOf(a.lock == l && l.holders.n > 0, "nobody is there to be asked")
	c.mustOf(a.at >= 0 && a.at <= c.t.now && a.until > c.t.now, "holders are asked at the wrong time")
	c.timer(a)
}

// first checks the first grant of a counted hold.
func (c *checker) first(x *claim) {
	f := x.passed()
	if f == nil {
		return
	}
	c.mustOf(c.t.level >= 2 && x.session != nil && x.lock.slots == 0 && !x.lock.isTask && !x.waiting(), "a hold that cannot be counted")
	c.mustOf(f.since >= 0 && f.since <= c.t.now && f.waited >= 0, "a counted hold began at an impossible time")
}

func (c *checker) pastHolds() {
	h, now := &c.t.past, c.t.now
	n, text, last := 0, uint64(0), Time(0)
	of := map[string]*lockPast{}
	for i, p := range h.list {
		c.must(i > 0 || p.dropped == 0, "the oldest past hold was dropped")
		if p.dropped != 0 {
			continue
		}
		n++
		text += p.textBytes()
		c.must(p.name != "" && p.token > 0 && p.token <= c.t.lastToken, "a past hold of nothing, or with token %d of %d", p.token, c.t.lastToken)
		c.must(p.since >= 0 && p.since <= p.ended && p.ended <= now && p.ended >= last && p.waited >= 0, "a past hold at an impossible time")
		c.must(p.slots == 0 || Mode(p.mode) == Exclusive, "a past hold of a shared permit")
		last = p.ended
		l := of[p.name]
		if l == nil {
			l = &lockPast{oldest: p}
			of[p.name] = l
		} else {
			c.must(l.newest.next == p, "lock %q: its past holds are not linked", p.name)
		}
		l.newest = p
		l.n++
		l.micros += p.micros()
	}
	c.must(n == h.n && text == h.text, "%d past holds with %d bytes of text, counted as %d with %d", n, text, h.n, h.text)
	c.must(n <= MaxHistory(c.t.settings) && text <= memoryText(c.t.settings), "%d past holds with %d bytes of text are too many", n, text)
	c.must(n == 0 || h.list[0].ended.Add(HistoryRetention(c.t.settings)) > now, "a past hold is too old")
	c.must(len(h.list) <= 2*n+1024, "%d past holds are kept for %d", len(h.list), n)
	c.must(len(of) == len(h.byLock), "%d locks with past holds, %d in the index", len(of), len(h.byLock))
	for name, l := range of {
		have := h.byLock[name]
		c.must(have != nil && *have == *l, "lock %q: its past holds are not those of the index", name)
	}
}

// broken checks that the broken keys are some of the spent keys, in the same order.
func (c *checker) broken() {
	b, s := &c.t.spent.broken, &c.t.spent
	text, i := uint64(0), 0
	for _, k := range b.list {
		text += k.textBytes()
		c.must(b.index[k.key] == k.order, "a broken key is not in the index")
		for i < s.n {
			one := s.slice(i, 1)[0]
			if i++; one == (spentKey{k.key, k.at}) {
				i--
				break
			}
		}
		c.must(i < s.n, "a broken key is not spent, or at another time")
		i++
	}
	c.must(len(b.index) == len(b.list) && text == b.text, "%d broken keys, %d in the index", len(b.list), len(b.index))
	c.must(b.text <= memoryText(c.t.settings), "%d bytes of reasons are too many", b.text)
}
