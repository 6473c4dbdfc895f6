package server

import (
	"net/url"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
	"github.com/doubledutch-lock/doubledutch/internal/node"
)

// The seed interface: GET /getLock/{name}, GET /getLock/{name}/{lifetime}, both with an optional ?timeout=, and GET
// /releaseLock/{name}/{key}. Answers are bare words. Query parameters that it does not know are ignored, as they always were.

const (
	seedFalse    = "false"
	seedReleased = "released"
)

func (s *Server) seedGet(c *call) error {
	lifetime, err := s.defaultLifetime(c.lasting())
	if err != nil {
		return err
	}
	return s.seedAcquire(c, lifetime)
}

func (s *Server) seedGetLifetime(c *call) error {
	lifetime, err := s.lifetime(c, c.params[1])
	if err != nil {
		return err
	}
	return s.seedAcquire(c, lifetime)
}

func (s *Server) seedAcquire(c *call, lifetime time.Duration) error {
	wait, err := seedTimeout(c.r.URL.RawQuery)
	if err != nil {
		return err
	}
	out, a, err := s.oldAcquire(c, c.params[0], lifetime, wait)
	if err != nil {
		return err
	}
	if out.Code != locktable.Granted {
		return c.text(seedFalse)
	}
	c.buf = append(c.buf[:0], a.GetKey()...)
	s.deliver(c, a, visit{ownKey: true}, plainType, c.buf)
	return nil
}

// oldAcquire takes an exclusive lock for the seed and classic interfaces, whose clients never know a key before they
// hold the lock. For them a lock that cannot be had is "held", whatever the reason; limits and failures are errors.
func (s *Server) oldAcquire(c *call, name string, lifetime, wait time.Duration) (locktable.Outcome, *command.Acquire, error) {
	a := &command.Acquire{Name: name, Key: node.NewKey(), Ttl: int64(lifetime), Wait: int64(wait)}
	if err := s.checkOldAcquire(c, a); err != nil {
		return locktable.Outcome{}, nil, err
	}
	out, err := s.acquire(c, a, visit{ownKey: true})
	if err != nil {
		return out, nil, err
	}
	switch out.Code {
	case locktable.Granted, locktable.Held, locktable.Cancelled, locktable.ModeMismatch:
		return out, a, nil
	}
	return out, nil, refusal(&out)
}

// checkOldAcquire refuses bad input in one sentence, before anything is taken.
func (s *Server) checkOldAcquire(c *call, a *command.Acquire) error {
	return s.check(c.lasting(), func(set *command.Settings) error {
		if err := locktable.CheckName(set, a.GetName()); err != nil {
			return fail(CodeInvalidName, sentence(err.Error()))
		}
		if a.GetTtl() > set.GetMaxTtl() {
			return failField("lifetime", "The lifetime may be at most "+secondsText(time.Duration(set.GetMaxTtl()))+" seconds.")
		}
		if a.GetWait() > set.GetMaxWait() {
			return failField("timeout", "The timeout may be at most "+secondsText(time.Duration(set.GetMaxWait()))+" seconds.")
		}
		return nil
	})
}

// lifetime reads a lifetime in seconds.
func (s *Server) lifetime(c *call, text string) (time.Duration, error) {
	d, ok := parsePlainSeconds(text)
	if !ok || d == 0 {
		return 0, failField("lifetime", "The lifetime must be a number of seconds greater than 0, such as 30 or 0.5.")
	}
	return atLeastMilli(d), nil
}

// seedTimeout reads ?timeout= from a query; without one it is 0.
func seedTimeout(raw string) (time.Duration, error) {
	if raw == "" {
		return 0, nil
	}
	q, err := url.ParseQuery(raw)
	if err != nil {
		return 0, fail(CodeInvalidRequest, "The part of the address after the question mark cannot be read.")
	}
	values, ok := q["timeout"]
	if !ok {
		return 0, nil
	}
	return oneTimeout(values)
}

func oneTimeout(values []string) (time.Duration, error) {
	if len(values) == 1 {
		if d, ok := parseWait(values[0]); ok {
			return d, nil
		}
	}
	return 0, failField("timeout", "The timeout must be one number of seconds, such as 10 or 0.5; a negative one waits as long as the connection lasts.")
}

func (s *Server) seedRelease(c *call) error {
	released, err := s.oldRelease(c, c.params[0], c.params[1])
	if err != nil {
		return err
	}
	if !released {
		return c.text(seedFalse)
	}
	return c.text(seedReleased)
}

// oldRelease ends the hold of key on name; false means that there was none, which a place in the queue counts as too.
func (s *Server) oldRelease(c *call, name, key string) (bool, error) {
	if err := s.checkName(c.lasting(), name); err != nil {
		return false, err
	}
	if _, ok := locktable.ParseKey(key); !ok {
		return false, nil
	}
	out, err := s.propose(c, command.FromRelease(&command.Release{Name: name, Key: key}))
	if err != nil {
		return false, err
	}
	switch out.Code {
	case locktable.Released:
		return out.Released > 0, nil
	case locktable.NotHeld, locktable.KeySpent, locktable.NoSession, locktable.Broken:
		return false, nil
	}
	return false, refusal(&out)
}
