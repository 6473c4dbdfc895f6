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
	info, now, err := s.lookUp(c, key)
	if err != nil {
		return err
	}
	b := append(c.buf[:0], `{"held":`...)
	if info.Held {
		b = append(b, "true"...)
		b = appendLease(b, &locktable.Outcome{TTL: info.TTL, Deadline: info.Deadline, Now: now})
	} else {
		b = append(b, "false"...)
	}
	b = append(b, `,"locks":[`...)
	b = appendSessionKey(b, &info, now, wallClock())
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
		return refusalOfHold(&out)
	}
	b := append(c.buf[:0], `{"names":[`...)
	b = append(appendString(b, info.Lock), ']')
	c.buf = append(appendLease(b, &out), '}')
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

// nameOf is the name that a command about the key needs: a claim on a task answers to its key alone.
func nameOf(info *locktable.KeyInfo) string {
	if info.Task {
		return ""
	}
	return info.Lock
}

// lookUp returns what the key stands for.
func (s *Server) lookUp(c *call, key string) (info locktable.KeyInfo, now locktable.Time, err error) {
	k, _ := locktable.ParseKey(key)
	found := false
	err = s.backend.Read(c.lasting(), func(t *locktable.Table, at locktable.Time) {
		info, found = t.Key(k)
		now = at
	})
	if err != nil {
		return info, now, backendError(c.lasting(), err)
	}
	if !found {
		return info, now, refusal(&locktable.Outcome{Code: locktable.NotHeld})
	}
	return info, now, nil
}
