package server

import (
	"strconv"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

// Answers of v1, written member by member: they are on the hot path, and this costs a tenth of reflection.

func appendGrant(b []byte, a *command.Acquire, out *locktable.Outcome) []byte {
	b = append(b, `{"name":`...)
	b = appendString(b, a.GetName())
	b = append(b, `,"key":"`...)
	b = append(b, a.GetKey()...) // checked to be letters and digits
	b = append(b, `","token":`...)
	b = strconv.AppendUint(b, out.Token, 10)
	b = appendLease(b, out)
	b = appendKind(b, a.GetMode(), a.GetSlots())
	b = append(b, `,"waited":`...)
	b = appendMillis(b, out.Waited)
	return append(b, '}')
}

// appendPlace answers one whose key still waits when it wanted to be told.
func appendPlace(b []byte, a *command.Acquire, out *locktable.Outcome) []byte {
	b = append(b, '{')
	if len(a.GetSet()) > 0 {
		b = appendSetNames(b, a)
	} else {
		b = append(b, `"name":`...)
		b = appendString(b, a.GetName())
	}
	b = append(b, `,"key":"`...)
	b = append(b, a.GetKey()...)
	b = append(b, `","waiting":true,"position":`...)
	b = strconv.AppendInt(b, int64(out.Position), 10)
	b = append(b, `,"queue_length":`...)
	b = strconv.AppendInt(b, int64(out.Holder.Waiters), 10)
	b = appendExpected(b, out.Expected)
	b = append(b, `,"waited":`...)
	b = appendMillis(b, out.Waited)
	return append(appendKept(b, out), '}')
}

// appendKept says how long a place stays without another request.
func appendKept(b []byte, out *locktable.Outcome) []byte {
	b = append(b, `,"keeps_place_for":`...)
	return appendMillis(b, out.Deadline.Sub(out.Now))
}

// appendLease appends ttl and expires_in, with a comma before each.
func appendLease(b []byte, out *locktable.Outcome) []byte {
	b = append(b, `,"ttl":`...)
	b = appendSeconds(b, out.TTL)
	b = append(b, `,"expires_in":`...)
	return appendMillis(b, out.Deadline.Sub(out.Now))
}

// appendKind appends mode, and slots for a semaphore.
func appendKind(b []byte, m locktable.Mode, slots uint32) []byte {
	b = append(b, `,"mode":"`...)
	b = append(b, modeName(m)...)
	b = append(b, '"')
	if slots > 0 {
		b = append(b, `,"slots":`...)
		b = strconv.AppendUint(b, uint64(slots), 10)
	}
	return b
}

func modeName(m locktable.Mode) string {
	if m == locktable.Shared {
		return "shared"
	}
	return "exclusive"
}

// appendWho appends owner and metadata where they are not empty, each followed by a comma.
func appendWho(b []byte, owner, metadata string) []byte {
	if owner != "" {
		b = append(b, `"owner":`...)
		b = append(appendString(b, owner), ',')
	}
	if metadata != "" {
		b = append(b, `"metadata":`...)
		b = append(appendString(b, metadata), ',')
	}
	return b
}

// appendSince appends the time of day at which something began.
func appendSince(b []byte, since locktable.Time, day *daytime) []byte {
	return appendDay(b, "since", since, day)
}

func appendLock(b []byte, l *locktable.LockInfo, day *daytime) []byte {
	b = append(b, `{"name":`...)
	b = appendString(b, l.Name)
	b = append(b, `,"held":`...)
	b = strconv.AppendBool(b, l.NumHolders > 0)
	if l.Slots > 0 {
		b = append(b, `,"slots":`...)
		b = strconv.AppendUint(b, uint64(l.Slots), 10)
	}
	b = appendHolders(b, l, day)
	b = appendQueue(b, l, day)
	if l.BlockedUntil > day.now {
		b = append(b, `,"blocked_for":`...)
		b = appendMillis(b, l.BlockedUntil.Sub(day.now))
	}
	b = appendExpected(b, l.Expected)
	b = appendAsked(b, l.Ask, day)
	return append(b, '}')
}

func appendHolders(b []byte, l *locktable.LockInfo, day *daytime) []byte {
	b = append(b, `,"holder_count":`...)
	b = strconv.AppendInt(b, int64(l.NumHolders), 10)
	b = append(b, `,"holders":[`...)
	for i := range l.Holders {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendHolder(b, &l.Holders[i], day)
	}
	return append(b, ']')
}

func appendHolder(b []byte, h *locktable.HolderInfo, day *daytime) []byte {
	b = append(b, '{')
	b = appendWho(b, h.Owner, h.Metadata)
	b = append(b, `"mode":"`...)
	b = append(b, modeName(h.Mode)...)
	b = append(b, `","token":`...)
	b = strconv.AppendUint(b, h.Token, 10)
	b = append(b, ',')
	b = appendSince(b, h.Since, day)
	b = append(b, `,"held_for":`...)
	b = appendMillis(b, day.now.Sub(h.Since))
	b = append(b, `,"ttl":`...)
	b = appendSeconds(b, h.TTL)
	b = append(b, `,"expires_in":`...)
	b = appendMillis(b, h.Deadline.Sub(day.now))
	return append(appendSetSize(b, h.Set), '}')
}

func appendQueue(b []byte, l *locktable.LockInfo, day *daytime) []byte {
	b = append(b, `,"queue_length":`...)
	b = strconv.AppendInt(b, int64(l.NumWaiters), 10)
	b = append(b, `,"queue":[`...)
	for i := range l.Waiters {
		w := &l.Waiters[i]
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '{')
		b = appendWho(b, w.Owner, w.Metadata)
		b = append(b, `"mode":"`...)
		b = append(b, modeName(w.Mode)...)
		b = append(b, `","position":`...)
		b = strconv.AppendInt(b, int64(w.Position), 10)
		b = append(b, ',')
		b = appendSince(b, w.Since, day)
		b = append(b, `,"waited":`...)
		b = appendMillis(b, day.now.Sub(w.Since))
		if w.WaitUntil != locktable.Never {
			b = append(b, `,"gives_up_in":`...)
			b = appendMillis(b, w.WaitUntil.Sub(day.now))
		}
		b = appendExpected(b, w.Expected)
		b = append(appendSetSize(b, w.Set), '}')
	}
	return append(b, ']')
}

// appendSetSize says on how many locks a hold or place is, if it is that of a set.
func appendSetSize(b []byte, n int) []byte {
	if n < 2 {
		return b
	}
	b = append(b, `,"set":`...)
	return strconv.AppendInt(b, int64(n), 10)
}

func appendSession(b []byte, id string, info *locktable.SessionInfo, day *daytime) []byte {
	b = append(b, `{"id":`...)
	b = appendString(b, id)
	b = append(b, ',')
	b = appendWho(b, info.Owner, info.Metadata)
	b = appendSince(b, info.Opened, day)
	b = append(b, `,"ttl":`...)
	b = appendSeconds(b, info.TTL)
	b = append(b, `,"expires_in":`...)
	b = appendMillis(b, info.Deadline.Sub(day.now))
	b = append(b, `,"key_count":`...)
	b = strconv.AppendInt(b, int64(info.NumKeys), 10)
	b = append(b, `,"locks":[`...)
	for i := range info.Keys {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendSessionKey(b, &info.Keys[i], day)
	}
	return append(b, `]}`...)
}

func appendSessionKey(b []byte, k *locktable.KeyInfo, day *daytime) []byte {
	b = append(b, `{"name":`...)
	b = appendString(b, k.Lock)
	b = append(b, `,"held":`...)
	b = strconv.AppendBool(b, k.Held)
	if len(k.Names) > 0 {
		b = append(b, `,"names":`...)
		b = appendNames(b, k)
	}
	if k.Task {
		b = append(b, `,"task":true`...)
	} else {
		b = appendKind(b, k.Mode, k.Slots)
	}
	if k.Held {
		b = append(b, `,"token":`...)
		b = strconv.AppendUint(b, k.Token, 10)
	} else {
		b = append(b, `,"position":`...)
		b = strconv.AppendInt(b, int64(k.Position), 10)
	}
	b = append(b, ',')
	b = appendSince(b, k.Since, day)
	b = appendExpected(b, k.Expected)
	b = appendAsked(b, k.Ask, day)
	return append(b, '}')
}

// appendProblem writes an error as RFC 9457 has it.
func appendProblem(b []byte, e *Error, day *daytime) []byte {
	info := codeTable[e.Code]
	b = append(b, `{"type":"urn:doubledutch:problem:`...)
	b = append(b, e.Code...)
	b = append(b, `","title":`...)
	b = appendString(b, info.title)
	b = append(b, `,"status":`...)
	b = strconv.AppendInt(b, int64(info.status), 10)
	b = append(b, `,"detail":`...)
	b = appendString(b, e.Detail)
	b = append(b, `,"code":"`...)
	b = append(b, e.Code...)
	b = append(b, '"')
	if e.field != "" {
		b = append(b, `,"field":`...)
		b = appendString(b, e.field)
	}
	if e.heldName != "" {
		b = append(b, `,"name":`...)
		b = appendString(b, e.heldName)
	}
	b = appendBroken(b, e.broken)
	if e.held != nil {
		b = appendHeldBy(b, e.held, day)
	}
	if e.cycle != nil {
		b = appendCycle(b, e.cycle)
	}
	if e.task != nil && e.task.Status != 0 {
		b = appendTaskBriefly(b, e.task)
	}
	return append(b, '}')
}

// appendHeldBy tells a refused client what there is to know about the lock.
func appendHeldBy(b []byte, out *locktable.Outcome, day *daytime) []byte {
	h := out.Holder
	if h == nil {
		return b
	}
	switch {
	case h.Holders > 0:
		b = appendFirstHolder(b, out, day)
	case blockedFor(out) > 0:
		b = append(b, `,"blocked_for":`...)
		b = appendMillis(b, blockedFor(out))
	}
	b = append(b, `,"holder_count":`...)
	b = strconv.AppendInt(b, int64(h.Holders), 10)
	b = append(b, `,"queue_length":`...)
	b = strconv.AppendInt(b, int64(h.Waiters), 10)
	b = append(b, `,"waited":`...)
	b = appendMillis(b, out.Waited)
	return appendExpected(b, out.Expected)
}

// appendFirstHolder appends the member holder, with a comma before it.
func appendFirstHolder(b []byte, out *locktable.Outcome, day *daytime) []byte {
	h := out.Holder
	b = append(b, `,"holder":{`...)
	b = appendWho(b, h.Owner, h.Metadata)
	b = append(b, `"mode":"`...)
	b = append(b, modeName(h.Mode)...)
	b = append(b, `","token":`...)
	b = strconv.AppendUint(b, h.Token, 10)
	b = append(b, ',')
	b = appendSince(b, h.Since, day)
	b = append(b, `,"held_for":`...)
	b = appendMillis(b, out.Now.Sub(h.Since))
	b = append(b, `,"expires_in":`...)
	b = appendMillis(b, h.Deadline.Sub(out.Now))
	return append(b, '}')
}
