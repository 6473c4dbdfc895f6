package server

import (
	"net/http"
	"strconv"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

// endNames are what clients are told of how a hold ended: the names of the events.
var endNames = map[locktable.EventKind]string{
	locktable.EventReleased:   "released",
	locktable.EventExpired:    "expired",
	locktable.EventBroken:     "revoked",
	locktable.EventHandedOver: "handed_over",
}

// A moment that is ahead of the cluster's calendar by no more than this is now, by another clock.
const historySkew = time.Minute

// historyQuery is what a request for past holds asks for.
type historyQuery struct {
	limit int
	at    time.Time // zero: not one moment
	stale bool
}

// chapter is what is known of the holds of one lock.
type chapter struct {
	holders []locktable.HolderInfo
	past    []locktable.PastHold
	first   *locktable.PastHold // the oldest one that is remembered, or nil
	count   int                 // present holders, shown or not
	day     daytime
}

// lockHistory answers GET /v1/locks/{name}/history.
func (s *Server) lockHistory(c *call) error {
	q, err := readHistoryQuery(c.r.URL.RawQuery)
	if err != nil {
		return err
	}
	name := c.params[0]
	var h chapter
	var st staleness
	var wrong error
	take := func(t *locktable.Table, now locktable.Time) {
		if wrong = locktable.CheckName(t.Settings(), name); wrong == nil {
			h.take(t, name, now)
		}
	}
	if q.stale {
		s.backend.ReadStale(func(t *locktable.Table, index uint64, age time.Duration) {
			take(t, t.Now())
			st = staleness{index, age}
		})
	} else if err := s.backend.Read(c.ctx(), take); err != nil {
		return backendError(c.ctx(), err)
	}
	if wrong != nil {
		return fail(CodeInvalidName, sentence(wrong.Error()))
	}
	if err := h.choose(&q); err != nil {
		return err
	}
	b := h.append(c.buf[:0], name, &q)
	if q.stale {
		b = appendStaleness(b, st)
	}
	c.buf = append(b, '}')
	return c.json(http.StatusOK)
}

func readHistoryQuery(raw string) (q historyQuery, err error) {
	q.limit = defaultListLimit
	err = readQuery(raw, func(name, value string) (err error) {
		switch name {
		case "limit":
			n, err := strconv.Atoi(value)
			if err != nil || !digits(value) || n < 1 || n > maxListLimit {
				return failField(name, "The parameter limit must be a whole number from 1 to "+strconv.Itoa(maxListLimit)+".")
			}
			q.limit = n
		case "at":
			if q.at, err = time.Parse(time.RFC3339, value); err != nil || q.at.Unix() < 0 {
				return failField(name, "The parameter at must be a time such as 2026-11-24T02:03:00Z; a + in it is written %2B.")
			}
		case consistencyParam:
			q.stale, err = readConsistency(value)
			return err
		default:
			return errNoParameter(name)
		}
		return nil
	})
	return q, err
}

// take reads all that the table knows of the holds of a lock.
func (h *chapter) take(t *locktable.Table, name string, now locktable.Time) {
	info, _ := t.Lock(name, maxShown)
	h.holders, h.count = info.Holders, info.NumHolders
	h.past = t.History(name, locktable.MaxHistoryPerLock(t.Settings()))
	if n := len(h.past); n > 0 {
		h.first = &h.past[n-1]
	}
	h.day = daytimeOf(t, now, 0)
}

// choose keeps what q asks for.
func (h *chapter) choose(q *historyQuery) error {
	if !q.at.IsZero() {
		if q.at.After(h.day.at(h.day.now).Add(historySkew)) {
			return failField("at", "The time that the parameter at names is yet to come.")
		}
		h.keepAt(q.at)
	}
	h.past = h.past[:min(len(h.past), q.limit)]
	return nil
}

// keepAt keeps the holds that there were at that time of day. The moment at which one hold ends and the next begins is the
// next one's.
func (h *chapter) keepAt(at time.Time) {
	var holders []locktable.HolderInfo
	for i := range h.holders {
		if !h.day.at(h.holders[i].Since).After(at) {
			holders = append(holders, h.holders[i])
		}
	}
	var past []locktable.PastHold
	for i := range h.past {
		if !h.day.at(h.past[i].Since).After(at) && h.day.at(h.past[i].Ended).After(at) {
			past = append(past, h.past[i])
		}
	}
	h.holders, h.past, h.count = holders, past, len(holders)
}

// append appends the chapter without its closing brace.
func (h *chapter) append(b []byte, name string, q *historyQuery) []byte {
	b = append(b, `{"name":`...)
	b = appendString(b, name)
	if !q.at.IsZero() {
		b = append(b, `,"at":"`...)
		b = q.at.UTC().AppendFormat(b, dayFormat)
		b = append(b, '"')
	}
	b = appendHolders(b, &locktable.LockInfo{Holders: h.holders, NumHolders: h.count}, &h.day)
	b = append(b, `,"holds":[`...)
	for i := range h.past {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendPastHold(b, &h.past[i], &h.day)
	}
	b = append(b, ']')
	if h.first != nil {
		b = append(b, ',')
		b = appendDay(b, "remembered_since", h.first.Since, &h.day)
	}
	return b
}

func appendPastHold(b []byte, p *locktable.PastHold, day *daytime) []byte {
	b = append(b, '{')
	b = appendWho(b, p.Owner, "")
	b = append(b, `"token":`...)
	b = strconv.AppendUint(b, p.Token, 10)
	b = appendKind(b, p.Mode, p.Slots)
	b = append(b, ',')
	b = appendSince(b, p.Since, day)
	b = append(b, ',')
	b = appendDay(b, "ended", p.Ended, day)
	b = append(b, `,"held_for":`...)
	b = appendMillis(b, p.Ended.Sub(p.Since))
	b = append(b, `,"waited":`...)
	b = appendMillis(b, p.Waited)
	b = append(b, `,"end":"`...)
	b = append(b, endNames[p.How]...)
	b = append(b, '"')
	if p.By != "" {
		b = append(b, `,"by":`...)
		b = appendString(b, p.By)
	}
	if p.Reason != "" {
		b = append(b, `,"reason":`...)
		b = appendString(b, p.Reason)
	}
	return append(b, '}')
}
