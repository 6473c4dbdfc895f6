package server

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

// By default, a read sees everything that was acknowledged before it, by whichever node. With consistency=stale, a node
// answers with what it has, also when it reaches nobody, and says how old that may be.

// staleness is how far a stale answer may be behind.
type staleness struct {
	index uint64        // of the newest log entry that is in it
	age   time.Duration // since the node heard from the leader, at most
}

const (
	consistencyParam        = "consistency"
	consistencyStale        = "stale"
	consistencyLinearizable = "linearizable"
)

// readConsistency tells whether the value of the parameter consistency asks for a stale read.
func readConsistency(value string) (stale bool, err error) {
	switch value {
	case consistencyStale:
		return true, nil
	case consistencyLinearizable:
		return false, nil
	}
	return false, failField(consistencyParam, "The parameter consistency must be linearizable or stale.")
}

// wantsStale looks for the parameter consistency in the query of a route that has no other.
func wantsStale(c *call) (bool, error) {
	if c.r.URL.RawQuery == "" {
		return false, nil
	}
	values, err := url.ParseQuery(c.r.URL.RawQuery)
	if err != nil {
		return false, fail(CodeInvalidRequest, "The part of the address after the question mark cannot be read.")
	}
	switch v := values[consistencyParam]; len(v) {
	case 0:
		return false, nil
	case 1:
		return readConsistency(v[0])
	}
	return false, failField(consistencyParam, `The parameter "consistency" is there more than once.`)
}

// showStaleLock answers GET /v1/locks/{name}?consistency=stale.
func (s *Server) showStaleLock(c *call) error {
	name := c.params[0]
	key, err := headerSecret(c, headerKey)
	if err != nil {
		return err
	}
	var l look
	var st staleness
	var wrong error = errNoTable
	s.backend.ReadStale(func(t *locktable.Table, index uint64, age time.Duration) {
		if wrong = locktable.CheckName(t.Settings(), name); wrong != nil {
			return
		}
		l.take(t, name, key, t.Now())
		st = staleness{index, age}
	})
	switch {
	case errors.Is(wrong, errNoTable):
		return wrong
	case wrong != nil:
		return fail(CodeInvalidName, sentence(wrong.Error()))
	}
	c.buf = append(appendStaleness(l.append(c.buf[:0]), st), '}')
	return c.json(http.StatusOK)
}

// listStep reads one step of a listing as consistently as q asks for.
func (s *Server) listStep(c *call, q *listQuery, after string, limit int) ([]locktable.LockInfo, daytime, error) {
	if !q.stale {
		return s.readLocks(c, q.prefix, after, limit)
	}
	page, day := s.readStaleLocks(q, after, limit)
	if q.found == nil {
		return nil, day, errNoTable
	}
	return page, day, nil
}

// readStaleLocks is readLocks for a stale listing. The staleness of a listing is that of its first step, the oldest.
func (s *Server) readStaleLocks(q *listQuery, after string, limit int) (page []locktable.LockInfo, day daytime) {
	s.backend.ReadStale(func(t *locktable.Table, index uint64, age time.Duration) {
		page, day = t.Locks(q.prefix, after, limit, maxShownListed), daytimeOf(t, t.Now(), 0)
		if q.found == nil {
			q.found = &staleness{index, age}
		}
	})
	return page, day
}

// appendStaleness marks an answer as stale; a comma comes first.
func appendStaleness(b []byte, st staleness) []byte {
	b = append(b, `,"consistency":"stale","applied_index":`...)
	b = strconv.AppendUint(b, st.index, 10)
	b = append(b, `,"age":`...)
	return appendMillisUp(b, st.age)
}

// appendMillisUp is appendSeconds rounded up to the millisecond: nobody may be told that something is newer than it is.
func appendMillisUp(b []byte, d time.Duration) []byte {
	if rest := d % time.Millisecond; rest > 0 {
		d += time.Millisecond - rest
	}
	return appendSeconds(b, d)
}
