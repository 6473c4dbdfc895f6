package server

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strconv"

	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

// showLock answers GET /v1/locks/{name}. A lock that nobody uses exists all the same: it is free.
func (s *Server) showLock(c *call) error {
	if stale, err := wantsStale(c); err != nil {
		return err
	} else if stale {
		return s.showStaleLock(c)
	}
	name := c.params[0]
	if err := s.checkName(c.lasting(), name); err != nil {
		return err
	}
	key, err := headerSecret(c, headerKey)
	if err != nil {
		return err
	}
	var l look
	err = s.backend.Read(c.lasting(), func(t *locktable.Table, now locktable.Time) { l.take(t, name, key, now) })
	if err != nil {
		return backendError(c.lasting(), err)
	}
	c.buf = append(l.append(c.buf[:0]), '}')
	return c.json(http.StatusOK)
}

// listLocks answers GET /v1/locks.
func (s *Server) listLocks(c *call) error {
	q, err := readListQuery(c.r.URL.RawQuery)
	if err != nil {
		return err
	}
	b := append(c.buf[:0], `{"locks":[`...)
	last, more := q.after, true
	for left := q.limit; left > 0 && more; {
		page, day, err := s.listStep(c, &q, last, min(left, listStep))
		if err != nil {
			return err
		}
		more = len(page) == min(left, listStep)
		for i := range page {
			if left < q.limit {
				b = append(b, ',')
			}
			b = appendLock(b, &page[i], &day)
			last = page[i].Name
			left--
		}
	}
	b = append(b, ']')
	if more {
		b = append(b, `,"cursor":`...)
		b = appendString(b, encodeCursor(last))
	}
	if q.found != nil {
		b = appendStaleness(b, *q.found)
	}
	c.buf = append(b, '}')
	return c.json(http.StatusOK)
}

// readLocks reads one step of a listing.
func (s *Server) readLocks(c *call, prefix, after string, limit int) (page []locktable.LockInfo, day daytime, err error) {
	err = s.backend.Read(c.lasting(), func(t *locktable.Table, now locktable.Time) {
		page = t.Locks(prefix, after, limit, maxShownListed)
		day = daytimeOf(t, now, 0)
	})
	if err != nil {
		return nil, day, backendError(c.lasting(), err)
	}
	return page, day, nil
}

type listQuery struct {
	prefix, after string
	limit         int
	stale         bool
	found         *staleness // of a stale listing, once it was read
}

// readListQuery is strict, like the bodies of v1.
func readListQuery(raw string) (listQuery, error) {
	q := listQuery{limit: defaultListLimit}
	if raw == "" {
		return q, nil
	}
	values, err := url.ParseQuery(raw)
	if err != nil {
		return q, fail(CodeInvalidRequest, "The part of the address after the question mark cannot be read.")
	}
	for name, v := range values {
		if len(v) > 1 {
			return q, failField(short(name), "The parameter "+quoteShort(name)+" is there more than once.")
		}
		if err := q.take(name, v[0]); err != nil {
			return q, err
		}
	}
	return q, nil
}

func (q *listQuery) take(name, value string) error {
	switch name {
	case "prefix":
		q.prefix = value
	case "limit":
		n, err := strconv.Atoi(value)
		if err != nil || !digits(value) || n < 1 || n > maxListLimit {
			return failField(name, "The parameter limit must be a whole number from 1 to "+strconv.Itoa(maxListLimit)+".")
		}
		q.limit = n
	case "cursor":
		after, ok := decodeCursor(value)
		if !ok {
			return failField(name, "The parameter cursor must be what an earlier answer said.")
		}
		q.after = after
	case consistencyParam:
		stale, err := readConsistency(value)
		q.stale = stale
		return err
	default:
		return failField(short(name), "There is no parameter "+quoteShort(name)+" here.")
	}
	return nil
}

// A cursor is the last name of a page, made opaque; the leading character is there for other cursors to come.
const cursorName = "n"

func encodeCursor(after string) string {
	return cursorName + base64.RawURLEncoding.EncodeToString([]byte(after))
}

func decodeCursor(cursor string) (string, bool) {
	if len(cursor) < 2 || cursor[:1] != cursorName {
		return "", false
	}
	after, err := base64.RawURLEncoding.DecodeString(cursor[1:])
	return string(after), err == nil
}
