package locktable

import (
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
)

// What came into snapshots with version 2: past holds, broken keys, what holders are asked, the calendar.

const historyChunkLen = 1024

// lockRecord is l with what its holders are asked.
func (t *Table) lockRecord(l *lock) *command.LockRecord {
	r := l.record()
	if a := t.asks[l]; a != nil {
		r.Ask = &command.AskRecord{Owner: a.owner, Reason: a.reason, At: int64(a.at), Until: int64(a.until)}
	}
	return r
}

// collectHistory collects the next chunk of past holds, or returns false if there is none. What a past hold says does not
// change; only whether it is remembered has to be asked now.
func (s *Snapshot) collectHistory() bool {
	var holds []*past
	for len(s.past) > 0 && len(holds) < historyChunkLen {
		if p := s.past[0]; p.dropped == 0 || p.dropped > s.dropped {
			holds = append(holds, p)
		}
		s.past = s.past[1:]
	}
	if len(holds) == 0 {
		return false
	}
	s.collectLater(func() *command.Record {
		r := &command.HistoryRecord{Holds: make([]*command.PastHold, 0, len(holds))}
		for _, p := range holds {
			r.Holds = append(r.Holds, p.record())
		}
		return &command.Record{Kind: &command.Record_History{History: r}}
	})
	s.trailer.History += uint64(len(holds))
	return true
}

func (p *past) record() *command.PastHold {
	r := &command.PastHold{
		Name: p.name, Token: p.token, Mode: Mode(p.mode), Slots: p.slots, Owner: p.owner, Since: int64(p.since), Ended: int64(p.ended),
		Waited: int64(p.waited), How: uint32(p.how),
	}
	if p.order != nil {
		r.By, r.Reason = p.order.by, p.order.reason
	}
	return r
}

func (s *Snapshot) collectBroken(most int) {
	for len(s.collected) < most && len(s.broken) > 0 {
		b := s.broken[0]
		s.broken = s.broken[1:]
		s.collect(&command.Record{Kind: &command.Record_Broken{Broken: &command.BrokenRecord{
			Key: b.key.Reveal(), At: int64(b.at), By: b.by, Reason: b.reason,
		}}})
		s.trailer.Broken++
	}
}

// takeCalendar reads the calendar in the header.
func (r *restorer) takeCalendar(h *command.SnapshotHeader) {
	for _, a := range h.GetCalendar() {
		r.table.anchors = append(r.table.anchors, anchor{Time(a.GetNow()), a.GetWall()})
	}
}

func (r *restorer) takeAsk(l *lock, x *command.AskRecord) error {
	if x == nil {
		return nil
	}
	if x.GetAt() < 0 || x.GetUntil() < x.GetAt() {
		return bad("the holders of a lock are asked at an impossible time")
	}
	r.table.putAsk(&ask{lock: l, owner: x.GetOwner(), reason: x.GetReason(), at: Time(x.GetAt()), until: Time(x.GetUntil())})
	return nil
}

func (r *restorer) takeHistory(x *command.HistoryRecord) error {
	if n := len(x.GetHolds()); n == 0 || n > historyChunkLen || r.count.GetHistory()%historyChunkLen != 0 {
		return bad("its past holds are not in chunks")
	}
	for _, h := range x.GetHolds() {
		how := EventKind(h.GetHow())
		ordered := how == EventBroken || how == EventHandedOver
		switch {
		case h.GetHow() > 255 || how != EventReleased && how != EventExpired && !ordered:
			return bad("a past hold has ended in an impossible way")
		case !ordered && h.GetBy()+h.GetReason() != "":
			return bad("a past hold has ended by an order that nobody gave")
		case h.GetMode() != Exclusive && h.GetMode() != Shared:
			return bad("a past hold has an unknown mode")
		}
		p := &past{
			name: h.GetName(), owner: h.GetOwner(), token: h.GetToken(), since: Time(h.GetSince()), ended: Time(h.GetEnded()),
			waited: time.Duration(h.GetWaited()), slots: h.GetSlots(), mode: uint8(h.GetMode()), how: uint8(how),
		}
		if ordered {
			p.order = r.orderOf(h.GetBy(), h.GetReason())
		}
		r.table.past.add(p, 1<<62)
		r.count.History++
	}
	return nil
}

func (r *restorer) takeBroken(x *command.BrokenRecord) error {
	key, ok := ParseKey(x.GetKey())
	if !ok || r.table.spent.broken.index[key] != nil {
		return bad("a broken key is malformed, or there twice")
	}
	r.table.spent.broken.add(key, Time(x.GetAt()), r.orderOf(x.GetBy(), x.GetReason()))
	r.count.Broken++
	return nil
}

// orderOf returns an order with these words, the one of the record before if that is the same: a Break of many holds is kept
// only once.
func (r *restorer) orderOf(by, reason string) *order {
	if o := r.order; o == nil || o.by != by || o.reason != reason {
		r.order = &order{by: by, reason: reason}
	}
	return r.order
}
