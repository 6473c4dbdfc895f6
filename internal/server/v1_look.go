package server

import (
	"slices"
	"strconv"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

// maxChain is how many steps of who waits for whom an answer tells.
const maxChain = 32

// look is what a look at one lock finds.
type look struct {
	lock  locktable.LockInfo
	chain locktable.Explanation
	// mine is what the key of the one who looks stands for, if that is this lock.
	mine *locktable.KeyInfo
	day  daytime
}

// take looks at the lock of that name. key may be empty.
func (l *look) take(t *locktable.Table, name, key string, now locktable.Time) {
	var ok bool
	if l.lock, ok = t.Lock(name, maxShown); !ok {
		l.lock = locktable.LockInfo{Name: name}
	}
	l.day = daytimeOf(t, now, oldest(&l.lock, now))
	l.chain = t.Explain(name, maxChain)
	if k, ok := locktable.ParseKey(key); ok {
		if info, ok := t.Key(k); ok && !info.Task && (info.Lock == name || slices.Contains(info.Names, name)) {
			l.mine = &info
			l.day = daytimeOf(t, now, 0) // the key may be further behind than what is shown
		}
	}
}

// append appends the lock without its closing brace.
func (l *look) append(b []byte) []byte {
	b = appendLock(b, &l.lock, &l.day)
	b = b[:len(b)-1]
	b = appendChain(b, &l.chain)
	return l.appendMine(b)
}

// appendChain tells what the first holder waits for, and the one who keeps it from it, and so on.
func appendChain(b []byte, e *locktable.Explanation) []byte {
	if len(e.Waits) == 0 {
		return b
	}
	b = append(b, `,"waits_for":`...)
	b = appendWaits(b, e.Waits)
	if e.Loop {
		b = append(b, `,"waits_in_circle":true`...)
	}
	if e.More {
		b = append(b, `,"waits_cut_off":true`...)
	}
	return b
}

func appendWaits(b []byte, waits []locktable.Wait) []byte {
	b = append(b, '[')
	for i := range waits {
		w := &waits[i]
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"owner":`...)
		b = appendString(b, w.Owner)
		b = append(b, `,"waits_for":`...)
		b = appendString(b, w.Lock)
		b = append(b, `,"held_by":`...)
		b = appendString(b, w.HeldBy)
		if w.Token > 0 {
			b = append(b, `,"token":`...)
			b = strconv.AppendUint(b, w.Token, 10)
		}
		if w.Queued {
			b = append(b, `,"queued":true`...)
		}
		b = append(b, '}')
	}
	return append(b, ']')
}

// appendMine tells the one who looks how its key stands.
func (l *look) appendMine(b []byte) []byte {
	k := l.mine
	switch {
	case k == nil:
		return b
	case k.Held:
		b = append(b, `,"hold":{"token":`...)
		b = strconv.AppendUint(b, k.Token, 10)
		b = append(b, ',')
		b = appendSince(b, k.Since, &l.day)
		b = appendLease(b, &locktable.Outcome{TTL: k.TTL, Deadline: k.Deadline, Now: l.day.now})
		return append(b, '}')
	}
	b = append(b, `,"place":{"position":`...)
	b = strconv.AppendInt(b, int64(k.Position), 10)
	b = append(b, ',')
	b = appendSince(b, k.Since, &l.day)
	if k.Deadline != locktable.Never {
		b = append(b, `,"gives_up_in":`...)
		b = appendMillis(b, k.Deadline.Sub(l.day.now))
	}
	b = appendExpected(b, k.Expected)
	return append(b, '}')
}

// appendExpected appends how long something may take, with a comma before it, if that is known.
func appendExpected(b []byte, d time.Duration) []byte {
	if d <= 0 {
		return b
	}
	b = append(b, `,"expected_wait":`...)
	return appendMillis(b, d)
}

// appendAsked appends what the holders are asked, with a comma before it, if anything.
func appendAsked(b []byte, a *locktable.AskInfo, day *daytime) []byte {
	if a == nil {
		return b
	}
	b = append(b, `,"asked":{`...)
	b = appendWho(b, a.Owner, "")
	b = append(b, `"reason":`...)
	b = appendString(b, a.Reason)
	b = append(b, ',')
	b = appendSince(b, a.At, day)
	b = append(b, `,"within":`...)
	b = appendSeconds(b, a.Until.Sub(a.At))
	b = append(b, `,"due_in":`...)
	b = appendMillis(b, a.Until.Sub(day.now))
	return append(b, '}')
}

// appendRenewed is appendLease for an answer to a renewal, with what the holder is asked.
func (s *Server) appendRenewed(b []byte, out *locktable.Outcome) []byte {
	b = appendLease(b, out)
	if out.Ask == nil {
		return b
	}
	day := s.daytimeSince(out.Now, out.Ask.At)
	return appendAsked(b, out.Ask, &day)
}
