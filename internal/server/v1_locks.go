package server

import (
	"net/http"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
	"github.com/doubledutch-lock/doubledutch/internal/node"
)

// acquireLock answers POST /v1/locks/{name}.
func (s *Server) acquireLock(c *call) error {
	var body acquireBody
	if err := readBody(c, &body, acquireMembers); err != nil {
		return err
	}
	a, err := body.command()
	if err != nil {
		return err
	}
	a.Name = c.params[0]
	if a.Request, err = numberOfNew(c, a.GetSession(), a.GetKey()); err != nil {
		return err
	}
	v := body.visit()
	if err := s.complete(c, a); err != nil {
		return err
	}
	if err := s.checkAcquire(c, a); err != nil {
		return err
	}
	out, err := s.acquire(c, a, v)
	if err != nil {
		return err
	}
	switch out.Code {
	case locktable.Granted:
		c.buf = appendGrant(c.buf[:0], a, &out)
		s.deliver(c, a, v, jsonType, c.buf)
	case locktable.Waiting:
		c.buf = appendPlace(c.buf[:0], a, &out)
		s.deliverPlace(c, a, v, http.StatusAccepted)
	default:
		refused := out               // the copy goes to the heap, not the outcome of those who are granted
		refused.Slots = a.GetSlots() // a refusal does not say of itself that it is about permits
		return s.refusal(c, a.GetKey(), &refused)
	}
	return nil
}

// complete fills in the key and the lifetime that the client left to the server.
func (s *Server) complete(c *call, a *command.Acquire) error {
	return s.fillIn(c, a.GetSession(), &a.Key, &a.Ttl)
}

// fillIn makes a key if there is none, and takes the default for a lifetime that is missing and not that of a session.
func (s *Server) fillIn(c *call, session string, key *string, ttl *int64) error {
	if *key == "" {
		*key = node.NewKey()
	}
	if session != "" || *ttl != 0 {
		return nil
	}
	d, err := s.defaultLifetime(c.lasting())
	*ttl = int64(d)
	return err
}

func (s *Server) checkAcquire(c *call, a *command.Acquire) error {
	return s.check(c.lasting(), func(set *command.Settings) error {
		if err := locktable.CheckName(set, a.GetName()); err != nil {
			return fail(CodeInvalidName, sentence(err.Error()))
		}
		if err := locktable.CheckAcquire(set, a); err != nil {
			return fail(CodeInvalidRequest, sentence(err.Error()))
		}
		return nil
	})
}

// renewLock answers POST /v1/locks/{name}/renew.
func (s *Server) renewLock(c *call) error {
	var body renewBody
	if err := readBody(c, &body, renewMembers); err != nil {
		return err
	}
	if body.key == "" {
		return errKeyMissing
	}
	request, err := requestNumber(c, body.session)
	if err != nil {
		return err
	}
	r := &command.Renew{Name: c.params[0], Key: body.key, Ttl: int64(body.ttl), Session: body.session, Request: request}
	if err := s.checkName(c.lasting(), r.GetName()); err != nil {
		return err
	}
	if err := s.checkTTL(c, body.ttl); err != nil {
		return err
	}
	out, err := s.propose(c, command.FromRenew(r))
	if err != nil {
		return err
	}
	if out.Code != locktable.Renewed {
		refused := out
		return s.refusalOfHold(c, r.GetKey(), &refused)
	}
	b := append(c.buf[:0], `{"name":`...)
	b = appendString(b, r.GetName())
	c.buf = append(s.appendRenewed(b, &out), '}')
	return c.json(http.StatusOK)
}

// releaseLock answers DELETE /v1/locks/{name}.
func (s *Server) releaseLock(c *call) error {
	key, err := lockKey(c)
	if err != nil {
		return err
	}
	session, err := headerSecret(c, headerSession)
	if err != nil {
		return err
	}
	request, err := requestNumber(c, session)
	if err != nil {
		return err
	}
	if err := s.checkName(c.lasting(), c.params[0]); err != nil {
		return err
	}
	return s.release(c, &command.Release{Name: c.params[0], Key: key, Session: session, Request: request})
}

func (s *Server) release(c *call, r *command.Release) error {
	out, err := s.propose(c, command.FromRelease(r))
	if err != nil {
		return err
	}
	if out.Code != locktable.Released {
		refused := out
		return s.refusalOfHold(c, r.GetKey(), &refused)
	}
	c.buf = append(c.buf[:0], `{"released":true}`...)
	return c.json(http.StatusOK)
}

// refusalOfHold is refusal for requests that name a hold: a spent key holds nothing any more.
func (s *Server) refusalOfHold(c *call, key string, out *locktable.Outcome) error {
	if out.Code == locktable.KeySpent {
		return refusal(&locktable.Outcome{Code: locktable.NotHeld})
	}
	return s.refusal(c, key, out)
}
