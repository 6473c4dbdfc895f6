package locktable

import (
	"slices"
	"sort"
	"strings"
)

// The operations that may carry a request number. The values are stored in snapshots.
const (
	opAcquire uint32 = iota + 1
	opRelease
	opRenew
	opRenewSession
)

// request says what a numbered call asked for.
type request struct {
	number uint64 // 0: the call has no number
	op     uint32
	key    string
}

// reply is the remembered outcome of a request.
type reply struct {
	request
	code     Code
	released int
}

// replies are the last requests of a session by ascending number, and where memory ends.
type replies struct {
	forgotten uint64
	list      []reply
}

// find returns the position of the reply to a number, and whether it is there.
func (r *replies) find(number uint64) (int, bool) {
	i := sort.Search(len(r.list), func(i int) bool { return r.list[i].number >= number })
	return i, i < len(r.list) && r.list[i].number == number
}

// put remembers p, in place of an older reply to its number, and forgets the smallest numbers beyond most.
func (r *replies) put(p reply, most int) {
	i, ok := r.find(p.number)
	if ok {
		r.list[i] = p
		return
	}
	r.list = slices.Insert(r.list, i, p)
	for len(r.list) > most {
		r.forgotten = r.list[0].number
		r.list = slices.Delete(r.list, 0, 1)
	}
}

// noteSpent records that the hold or place that an acquire of the session brought has ended for good, so that a repetition
// of it cannot bring another one, however long ago the key was forgotten elsewhere.
func (s *session) noteSpent(k Key) {
	for i := range s.replies.list {
		if p := &s.replies.list[i]; (p.op == opAcquire || p.op == opClaimTask) && p.key == string(k[:]) {
			p.code = KeySpent
		}
	}
}

// numbered runs do unless q was answered before, and remembers the answer.
func (t *Table) numbered(s *session, q request, do func() Outcome) Outcome {
	if q.number == 0 {
		return do()
	}
	if q.number <= s.replies.forgotten {
		return Outcome{Code: RequestTooOld}
	}
	i, known := s.replies.find(q.number)
	if known {
		p := s.replies.list[i]
		if p.request != q {
			return Outcome{Code: RequestMismatch}
		}
		if o, ok := t.replay(s, p); ok {
			return o
		}
	}
	o := do()
	if known && o.Code == KeyInUse {
		return o // another question under the same number and key; the right one keeps its reply
	}
	if o.Code == SlotPassed {
		return o // nothing is decided: the gateway asks again, for the present slot and with the same number
	}
	t.touchSession(s)
	q.key = strings.Clone(q.key)
	s.replies.put(reply{request: q, code: o.Code, released: o.Released}, int(t.settings.GetMaxRepliesPerSession()))
	return o
}

// replay returns the outcome of a request that was executed before, or false if it has to be executed (again).
func (t *Table) replay(s *session, p reply) (Outcome, bool) {
	switch {
	case p.code == Renewed:
		return Outcome{Code: Renewed, TTL: s.ttl, Deadline: s.deadline}, true
	case p.code == KeySpent, p.code == Broken:
		return t.unlessBroken(p.key, p.code), true
	case (p.op == opAcquire || p.op == opClaimTask) && (p.code == Granted || p.code == Waiting):
		// The key answers for itself; if it was taken back without being spent, nothing came of the request.
		return Outcome{}, false
	default:
		return Outcome{Code: p.code, Released: p.released}, true
	}
}
