package locktable

import (
	"strings"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
)

// ask is what the holders of a lock are asked. It is in Table.asks, since few locks have one.
type ask struct {
	lock          *lock
	owner, reason string
	at, until     Time
	timer         int32
}

func (a *ask) due() Time { return a.until }

// order is the same for all: when one ends, nothing else depends on it.
func (a *ask) order() uint64 { return 0 }
func (a *ask) slot() *int32  { return &a.timer }

func (a *ask) textBytes() uint64 { return uint64(len(a.owner) + len(a.reason)) }

// askHolders remembers an Ask and tells observers.
func (t *Table) askHolders(c *command.Ask) Outcome {
	if err := CheckAsk(t.settings, c); err != nil {
		return invalid(err)
	}
	l := t.lockNamed(c.GetName())
	if l == nil || l.holders.n == 0 {
		return Outcome{Code: NotHeld}
	}
	old := t.asks[l]
	if old != nil && old.says(c) {
		return Outcome{Code: Done, Holder: t.describeLock(l)}
	}
	if !t.hasRoomFor(len(c.GetOwner()) + len(c.GetReason())) {
		return Outcome{Code: TooMuchText}
	}
	t.touch(l)
	t.dropAsk(l)
	a := &ask{
		lock: l, owner: strings.Clone(c.GetOwner()), reason: strings.Clone(c.GetReason()),
		at: t.now, until: t.now.Add(time.Duration(c.GetWithin())),
	}
	t.putAsk(a)
	h := l.holders.head
	t.emit(Event{
		Kind: EventAsked, Lock: l.name, Mode: h.modeOf(), Slots: l.slots, Token: h.token, Deadline: a.until, By: a.owner, Reason: a.reason,
	})
	return Outcome{Code: Done, Holder: t.describeLock(l)}
}

// says tells whether c is a again.
func (a *ask) says(c *command.Ask) bool {
	return a.owner == c.GetOwner() && a.reason == c.GetReason() && a.until.Sub(a.at) == time.Duration(c.GetWithin())
}

func (t *Table) putAsk(a *ask) {
	if t.asks == nil {
		t.asks = make(map[*lock]*ask)
	}
	t.asks[a.lock] = a
	t.text += a.textBytes()
	t.timers.arm(a)
}

// dropAsk forgets what the holders of l were asked, if they were asked anything. The caller has touched l.
func (t *Table) dropAsk(l *lock) {
	if a := t.asks[l]; a != nil {
		t.timers.disarm(a)
		t.text -= a.textBytes()
		delete(t.asks, l)
	}
}

// askOf returns what the holders of l are asked, or nil.
func (t *Table) askOf(l *lock) *AskInfo {
	a := t.asks[l]
	if a == nil {
		return nil
	}
	return &AskInfo{Owner: a.owner, Reason: a.reason, At: a.at, Until: a.until}
}

// askOfHold returns what the holders of the lock of c, or of the first lock of its set of which there is something to ask, are
// asked, or nil.
func (t *Table) askOfHold(c *claim) *AskInfo {
	if len(t.asks) == 0 {
		return nil
	}
	for _, m := range c.all() {
		if a := t.askOf(m.lock); a != nil {
			return a
		}
	}
	return nil
}

// breakHolds ends holds by order of an operator.
func (t *Table) breakHolds(b *command.Break) Outcome {
	if err := CheckBreak(t.settings, b); err != nil {
		return invalid(err)
	}
	l := t.lockNamed(b.GetName())
	if l == nil {
		return Outcome{Code: NotHeld}
	}
	var broken []*claim
	for c := l.holders.head; c != nil; c = c.next {
		if c.token <= b.GetUpToToken() {
			broken = append(broken, c.lead())
		}
	}
	if broken == nil {
		return Outcome{Code: NotHeld}
	}
	t.order = &order{by: strings.Clone(b.GetOwner()), reason: strings.Clone(b.GetReason())}
	for _, c := range broken {
		t.list(c)
		t.end(c, EventBroken)
	}
	t.order = nil
	t.settle()
	return Outcome{Code: Released, Released: len(broken)}
}

// opHandOver stands in the remembered replies of sessions. It leaves room for the operations of requests.go.
const opHandOver uint32 = 16

func (t *Table) handOver(h *command.HandOver) Outcome {
	if err := CheckHandOver(t.settings, h); err != nil {
		return invalid(err)
	}
	c := t.claimOf(h.GetName(), h.GetKey())
	q := request{number: h.GetRequest(), op: opHandOver, key: h.GetKey()}
	return t.inSession(h.GetSession(), q, c, func() Outcome {
		if c == nil || c.waiting() || c.lock.isTask {
			return t.notHeld(h.GetKey())
		}
		return t.handOverTo(c, h.GetTo())
	})
}

// handOverTo ends the hold c in favour of the first waiter of that owner. Finding it takes a walk through the queue.
func (t *Table) handOverTo(c *claim, to string) Outcome {
	l := c.lock
	w := l.waiters.head
	for w != nil && w.ownerName() != to {
		w = w.next
	}
	if w == nil || l.holders.n != 1 || l.block != nil || c.set() != nil || !w.waitsHereOnly() {
		return Outcome{Code: NoSuccessor}
	}
	t.order = &order{by: strings.Clone(to)}
	t.end(c, EventHandedOver)
	t.order = nil
	t.grantWaiter(w)
	t.serve(c)
	return Outcome{Code: Released, Released: 1}
}

// waitsHereOnly tells whether the session of the place w waits for nothing but this lock in this mode, so that it waits for
// nothing any more once w is granted.
func (w *claim) waitsHereOnly() bool {
	if w.set() != nil || w.session == nil || w.session.places == 1 {
		return w.set() == nil
	}
	together := 0
	for _, c := range w.session.placesOn(w.lock) {
		if c.mode == w.mode && w.lock.slots == 0 && c.set() == nil {
			together++
		}
	}
	return together == w.session.places
}

// notHeld is the outcome for a key that does not hold: Broken, if that is why.
func (t *Table) notHeld(key string) Outcome { return t.unlessBroken(key, NotHeld) }

// unlessBroken returns an outcome with the code, or, if the hold of the key was broken and that is still remembered, Broken.
func (t *Table) unlessBroken(key string, code Code) Outcome {
	if len(t.spent.broken.list) == 0 {
		return Outcome{Code: code}
	}
	k, ok := ParseKey(key)
	if !ok || t.keys.get(k) != nil {
		return Outcome{Code: code}
	}
	if o := t.spent.broken.index[k]; o != nil {
		return Outcome{Code: Broken, Detail: o.detail()}
	}
	return Outcome{Code: code}
}

// Broken tells by whom and why the hold of the key was broken, or returns false if it was not, or that is not remembered any
// more.
func (t *Table) Broken(k Key) (by, reason string, ok bool) {
	o := t.spent.broken.index[k]
	if o == nil || t.keys.get(k) != nil {
		return "", "", false
	}
	return o.by, o.reason, true
}

// detail says by whom and why.
func (o *order) detail() string {
	by := "by an operator"
	if o.by != "" {
		by = "by " + o.by
	}
	if o.reason == "" {
		return by
	}
	return by + ": " + o.reason
}

// brokenKeys remembers why keys were broken. They are a part of the spent keys, and go with them or before them. The list
// is only ever appended to and cut off at its front, so that a snapshot can read its part of it.
type brokenKeys struct {
	index map[Key]*order
	list  []brokenKey // oldest first
	text  uint64
}

type brokenKey struct {
	key Key
	at  Time
	*order
}

func (b *brokenKeys) add(k Key, at Time, o *order) {
	if b.index == nil {
		b.index = make(map[Key]*order)
	}
	b.index[k] = o
	b.list = append(b.list, brokenKey{k, at, o})
	b.text += o.textBytes()
}

// forget is told the oldest spent key when it is forgotten.
func (b *brokenKeys) forget(k Key) {
	if len(b.list) > 0 && b.list[0].key == k {
		b.drop()
	}
}

// shrink forgets the oldest reasons beyond so many bytes of text.
func (b *brokenKeys) shrink(text uint64) {
	for b.text > text {
		b.drop()
	}
}

func (b *brokenKeys) drop() {
	first := b.list[0]
	delete(b.index, first.key)
	b.text -= first.textBytes()
	if b.list = b.list[1:]; len(b.list) == 0 {
		*b = brokenKeys{}
	}
}
