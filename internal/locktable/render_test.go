package locktable

import (
	"fmt"
	"strconv"
	"strings"
)

// How scripts show outcomes, events and locks.

// secs shows nanoseconds as seconds, exactly.
func secs(ns int64) string {
	sign := ""
	if ns < 0 {
		sign, ns = "-", -ns
	}
	s := sign + strconv.FormatInt(ns/1e9, 10)
	if r := ns % 1e9; r != 0 {
		s += strings.TrimRight(fmt.Sprintf(".%09d", r), "0")
	}
	return s + "s"
}

func kind(mode Mode, slots uint32) string {
	switch {
	case mode == Shared:
		return " shared"
	case slots > 0:
		return fmt.Sprintf(" slots=%d", slots)
	}
	return ""
}

func waited(d int64) string {
	if d == 0 {
		return ""
	}
	return " waited=" + secs(d)
}

var codeWords = map[Code]string{
	Invalid: "invalid", ModeMismatch: "mode mismatch", KeySpent: "key spent", KeyInUse: "key in use", NotHeld: "not held",
	NoSession: "no session", SessionPrivate: "session private", TooManyLocks: "too many locks", TooManyWaiters: "too many waiters",
	TooManySessions: "too many sessions", TooManyKeys: "too many keys", TooManyHolders: "too many holders",
	TooMuchText: "too much text", RequestTooOld: "request too old",
	RequestMismatch: "request mismatch", Done: "done", Cancelled: "cancelled", Deadlock: "deadlock", NoSuccessor: "no successor",
}

func showOutcome(o Outcome) string {
	switch o.Code {
	case Granted:
		if o.Task != nil {
			return fmt.Sprintf("claimed token=%d until=%s attempt=%d%s\n", o.Token, secs(int64(o.Deadline)), o.Task.Attempts, waited(int64(o.Waited)))
		}
		return fmt.Sprintf("granted token=%d until=%s%s%s\n", o.Token, secs(int64(o.Deadline)), waited(int64(o.Waited)), kind(o.Mode, o.Slots))
	case Waiting:
		return fmt.Sprintf("waiting position=%d%s%s\n", o.Position, kind(o.Mode, o.Slots), expected(o.Expected))
	case Held:
		return showHolder(o.Holder, o.Now) + expected(o.Expected) + "\n"
	case Renewed:
		return fmt.Sprintf("renewed until=%s%s\n", secs(int64(o.Deadline)), asked(o.Ask))
	case Opened:
		return fmt.Sprintf("opened until=%s\n", secs(int64(o.Deadline)))
	case Released:
		return fmt.Sprintf("released %d\n", o.Released)
	case Ended:
		return fmt.Sprintf("ended released=%d\n", o.Released)
	case Deadlock:
		if o.Cycle != nil {
			return "deadlock: " + showChain(o.Cycle) + "\n"
		}
	case Done:
		if o.Holder != nil {
			return fmt.Sprintf("done, asked the holder of token %d\n", o.Holder.Token)
		}
	case Broken:
		return strings.TrimSpace("broken "+o.Detail) + "\n"
	case Invalid:
		if o.Detail == "" {
			return "invalid without a reason\n"
		}
	}
	if o.Task != nil {
		return codeWords[o.Code] + showTask(*o.Task) + "\n"
	}
	return codeWords[o.Code] + "\n"
}

// showChain tells who waits for whom: "ann waits for x held by bob (token 2), bob waits for y behind cat".
func showChain(c *Chain) string {
	var steps []string
	for _, w := range c.Waits {
		by := fmt.Sprintf("held by %s (token %d)", w.HeldBy, w.Token)
		if w.Queued {
			by = "behind " + w.HeldBy
		}
		steps = append(steps, fmt.Sprintf("%s waits for %s %s", w.Owner, w.Lock, by))
	}
	return strings.Join(steps, ", ")
}

func showHolder(h *Holder, now Time) string {
	if h == nil {
		return "held"
	}
	by := ""
	if h.Owner != "" {
		by = " by=" + h.Owner
	}
	if h.Holders == 0 && h.Deadline != 0 {
		by = " by delay"
	}
	return fmt.Sprintf("held%s holders=%d waiters=%d free-in=%s", by, h.Holders, h.Waiters, secs(int64(h.Deadline-now)))
}

func showEvent(e Event) string {
	if e.Set > 0 {
		size := e.Set
		e.Set = 0
		return fmt.Sprintf("%s set=%d\n", strings.TrimSuffix(showEvent(e), "\n"), size)
	}
	what := unpad(e.Key) + " " + e.Lock
	if e.Task != nil {
		return showTaskEvent(e)
	}
	switch e.Kind {
	case EventGranted:
		return fmt.Sprintf("granted %s token=%d until=%s%s%s\n", what, e.Token, secs(int64(e.Deadline)), waited(int64(e.Waited)), kind(e.Mode, e.Slots))
	case EventReleased:
		return fmt.Sprintf("released %s token=%d held=%s\n", what, e.Token, secs(int64(e.HeldFor)))
	case EventExpired:
		return fmt.Sprintf("expired %s token=%d held=%s\n", what, e.Token, secs(int64(e.HeldFor)))
	case EventQueued:
		return fmt.Sprintf("queued %s\n", what)
	case EventCancelled:
		return fmt.Sprintf("cancelled %s%s\n", what, waited(int64(e.Waited)))
	case EventTimedOut:
		return fmt.Sprintf("timed-out %s%s%s\n", what, waited(int64(e.Waited)), expected(e.Expected))
	case EventBroken, EventHandedOver, EventAsked:
		return showOrder(e)
	case EventSuperseded:
		return fmt.Sprintf("superseded %s via=%d\n", what, e.Attachment)
	case EventSessionExpired:
		return fmt.Sprintf("session-expired %s\n", unpad(e.Key))
	}
	return fmt.Sprintf("unknown event %d\n", e.Kind)
}

func (s *script) show(what string) string {
	if id, ok := strings.CutPrefix(what, "session "); ok {
		return s.showSession(id)
	}
	if name, ok := strings.CutPrefix(what, "task "); ok {
		x, ok := s.subject.Task(name)
		if !ok {
			return "unknown\n"
		}
		return strings.TrimPrefix(showTask(x), " ") + named(x.Owner, x.Metadata) + "\n"
	}
	l, ok := s.subject.Lock(what, 100)
	if !ok {
		return "free\n"
	}
	var b strings.Builder
	b.WriteString(asked(l.Ask) + expected(l.Expected))
	if b.Len() > 0 {
		b.WriteString("\n")
	}
	if l.BlockedUntil != 0 {
		fmt.Fprintf(&b, "blocked until=%s\n", secs(int64(l.BlockedUntil)))
	}
	for _, h := range l.Holders {
		fmt.Fprintf(&b, "holder%s token=%d since=%s until=%s%s\n",
			named(h.Owner, h.Metadata), h.Token, secs(int64(h.Since)), secs(int64(h.Deadline)), kind(h.Mode, h.Slots)+inSet(h.Set))
	}
	for _, w := range l.Waiters {
		until := secs(int64(w.WaitUntil))
		if w.WaitUntil == Never {
			until = "never"
		}
		fmt.Fprintf(&b, "waiter %d%s since=%s gives-up=%s%s%s\n", w.Position, named(w.Owner, w.Metadata), secs(int64(w.Since)), until,
			kind(w.Mode, 0)+inSet(w.Set), expected(w.Expected))
	}
	return b.String()
}

func inSet(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(" set=%d", n)
}

func named(owner, metadata string) string {
	s := ""
	if owner != "" {
		s += " by=" + owner
	}
	if metadata != "" {
		s += " metadata=" + metadata
	}
	return s
}

func (s *script) showSession(id string) string {
	k, _ := ParseKey(pad(id))
	i, ok := s.subject.Session(k, 100)
	if !ok {
		return "no session\n"
	}
	var b strings.Builder
	word := "session"
	if i.Private {
		word = "private session"
	}
	fmt.Fprintf(&b, "%s%s ttl=%s until=%s\n", word, named(i.Owner, i.Metadata), secs(int64(i.TTL)), secs(int64(i.Deadline)))
	for _, k := range i.Keys {
		if k.Names != nil {
			k.Lock = strings.Join(k.Names, "+")
		}
		if k.Task {
			k.Lock = "task " + k.Lock
		}
		if k.Held {
			fmt.Fprintf(&b, "holds %s token=%d%s%s\n", k.Lock, k.Token, kind(k.Mode, k.Slots), asked(k.Ask))
		} else {
			fmt.Fprintf(&b, "waits for %s position=%d%s%s\n", k.Lock, k.Position, kind(k.Mode, k.Slots), expected(k.Expected))
		}
	}
	return b.String()
}
