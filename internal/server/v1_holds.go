package server

import (
	"net/http"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

// The routes below /v1/holds speak of what a key holds without naming it. That is one lock, all locks
// of a set, or a task.

// showHolds answers GET /v1/holds.
func (s *Server) showHolds(c *call) error {
	key, err := lockKey(c)
	if err != nil {
		return err
	}
	info, day, err := s.lookUp(c, key)
	if err != nil {
		return err
	}
	b := append(c.buf[:0], `{"held":`...)
	if info.Held {
		b = append(b, "true"...)
		b = appendLease(b, &locktable.Outcome{TTL: info.TTL, Deadline: info.Deadline, Now: day.now})
	} else {
		b = append(b, "false"...)
	}
	b = append(b, `,"locks":[`...)
	b = appendSessionKey(b, &info, &day)
	c.buf = append(b, `]}`...)
	return c.json(http.StatusOK)
}

// renewHolds answers POST /v1/holds/renew.
func (s *Server) renewHolds(c *call) error {
	var body renewBody
	if err := readBody(c, &body, holdsMembers); err != nil {
		return err
	}
	if body.key == "" {
		return errKeyMissing
	}
	if _, err := requestNumber(c, ""); err != nil {
		return err
	}
	if err := s.checkTTL(c, body.ttl); err != nil {
		return err
	}
	info, _, err := s.lookUp(c, body.key)
	if err != nil {
		return err
	}
	out, err := s.propose(c, command.FromRenew(&command.Renew{Name: nameOf(&info), Key: body.key, Ttl: int64(body.ttl)}))
	if err != nil {
		return err
	}
	if out.Code != locktable.Renewed {
		return s.refusalOfHold(c, body.key, &out)
	}
	b := append(c.buf[:0], `{"names":`...)
	b = appendNames(b, &info)
	c.buf = append(s.appendRenewed(b, &out), '}')
	return c.json(http.StatusOK)
}

// releaseHolds answers DELETE /v1/holds.
func (s *Server) releaseHolds(c *call) error {
	key, err := lockKey(c)
	if err != nil {
		return err
	}
	if _, err := requestNumber(c, ""); err != nil {
		return err
	}
	info, _, err := s.lookUp(c, key)
	if err != nil {
		return err
	}
	return s.release(c, &command.Release{Name: nameOf(&info), Key: key})
}

// appendNames lists the locks that a key is about.
func appendNames(b []byte, info *locktable.KeyInfo) []byte {
	if len(info.Names) == 0 {
		return append(appendString(append(b, '['), info.Lock), ']')
	}
	b = append(b, '[')
	for i, name := range info.Names {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, name)
	}
	return append(b, ']')
}

// nameOf is the name that a command about the key needs: a claim on a task answers to its key alone.
func nameOf(info *locktable.KeyInfo) string {
	if info.Task {
		return ""
	}
	return info.Lock
}

// lookUp returns what the key stands for.
func (s *Server) lookUp(c *call, key string) (info locktable.KeyInfo, day daytime, err error) {
	k, _ := locktable.ParseKey(key)
	found := false
	var broken *brokenBy
	err = s.backend.Read(c.lasting(), func(t *locktable.Table, now locktable.Time) {
		if info, found = t.Key(k); !found {
			broken = brokenIn(t, k)
		}
		day = daytimeOf(t, now, info.Since)
	})
	switch {
	case err != nil:
		return info, day, backendError(c.lasting(), err)
	case broken != nil:
		return info, day, broken.refusal()
	case !found:
		return info, day, refusal(&locktable.Outcome{Code: locktable.NotHeld})
	}
	return info, day, nil
}
