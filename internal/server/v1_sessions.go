package server

import (
	"net/http"
	"strconv"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
	"github.com/doubledutch-lock/doubledutch/internal/node"
)

// openSession answers POST /v1/sessions.
func (s *Server) openSession(c *call) error {
	var body sessionBody
	err := readBody(c, &body, sessionMembers)
	if err != nil {
		return err
	}
	if _, err := requestNumber(c, ""); err != nil {
		return err
	}
	if body.ttl == 0 {
		if body.ttl, err = s.defaultLifetime(c.lasting()); err != nil {
			return err
		}
	}
	if body.id == "" {
		body.id = node.NewKey()
	}
	o := &command.OpenSession{Id: body.id, Ttl: int64(body.ttl), Owner: body.owner, Metadata: body.metadata}
	if err := s.checkOpen(c, o); err != nil {
		return err
	}
	out, err := s.propose(c, command.FromOpenSession(o))
	if err != nil {
		return err
	}
	if out.Code != locktable.Opened {
		return refusal(&out)
	}
	return c.lease(o.GetId(), &out)
}

func (s *Server) checkOpen(c *call, o *command.OpenSession) error {
	return s.check(c.lasting(), func(set *command.Settings) error {
		if err := locktable.CheckOpenSession(set, o); err != nil {
			return fail(CodeInvalidRequest, sentence(err.Error()))
		}
		return nil
	})
}

// checkTTL refuses a lifetime beyond the server's maximum; 0 stands for none.
func (s *Server) checkTTL(c *call, ttl time.Duration) error {
	if ttl == 0 {
		return nil
	}
	return s.check(c.lasting(), func(set *command.Settings) error {
		if err := locktable.CheckTTL(set, ttl); err != nil {
			return failField("ttl", sentence(err.Error()))
		}
		return nil
	})
}

// lease answers with the lifetime of a session.
func (c *call) lease(id string, out *locktable.Outcome) error {
	b := append(c.buf[:0], `{"id":`...)
	b = appendString(b, id)
	c.buf = append(appendLease(b, out), '}')
	return c.json(http.StatusOK)
}

// sessionID takes the id from the path. What cannot be one is no session, like one that does not exist.
func sessionID(c *call) (string, locktable.Key, error) {
	k, ok := locktable.ParseKey(c.params[0])
	if !ok {
		return "", k, refusal(&locktable.Outcome{Code: locktable.NoSession})
	}
	return c.params[0], k, nil
}

// renewSession answers POST /v1/sessions/{id}/renew.
func (s *Server) renewSession(c *call) error {
	id, _, err := sessionID(c)
	if err != nil {
		return err
	}
	var body ttlBody
	if err := readBody(c, &body, ttlMembers); err != nil {
		return err
	}
	request, err := requestNumber(c, id)
	if err != nil {
		return err
	}
	if err := s.checkTTL(c, body.ttl); err != nil {
		return err
	}
	r := &command.RenewSession{Id: id, Ttl: int64(body.ttl), Request: request}
	out, err := s.propose(c, command.FromRenewSession(r))
	if err != nil {
		return err
	}
	if out.Code != locktable.Renewed {
		return s.refusal(c, id, &out)
	}
	b := append(c.buf[:0], `{"id":`...)
	b = appendString(b, id)
	c.buf = append(s.appendRenewed(b, &out), '}')
	return c.json(http.StatusOK)
}

// endSession answers DELETE /v1/sessions/{id}.
func (s *Server) endSession(c *call) error {
	id, _, err := sessionID(c)
	if err != nil {
		return err
	}
	out, err := s.propose(c, command.FromEndSession(&command.EndSession{Id: id}))
	if err != nil {
		return err
	}
	if out.Code != locktable.Ended {
		return refusal(&out)
	}
	b := append(c.buf[:0], `{"released":`...)
	b = strconv.AppendInt(b, int64(out.Released), 10)
	c.buf = append(b, '}')
	return c.json(http.StatusOK)
}

// showSession answers GET /v1/sessions/{id}, with the first maxShown of its keys.
func (s *Server) showSession(c *call) error {
	_, id, err := sessionID(c)
	if err != nil {
		return err
	}
	var info locktable.SessionInfo
	var day daytime
	var found bool
	err = s.backend.Read(c.lasting(), func(t *locktable.Table, now locktable.Time) {
		info, found = t.Session(id, maxShown)
		day = daytimeOf(t, now, 0)
	})
	if err != nil {
		return backendError(c.lasting(), err)
	}
	if !found {
		return refusal(&locktable.Outcome{Code: locktable.NoSession})
	}
	c.buf = appendSession(c.buf[:0], c.params[0], &info, &day)
	return c.json(http.StatusOK)
}
