package server

import (
	"context"
	"errors"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
	"github.com/doubledutch-lock/doubledutch/internal/node"
)

// What people do about a lock that somebody holds: ask, and break; and handing it over.

// defaultWithin is how long holders are asked to take at most, unless the one who asks says so.
const defaultWithin = time.Minute

// askBody is the body of POST /v1/locks/{name}/ask.
type askBody struct {
	owner, reason string
	within        time.Duration
}

var askMembers = []member[askBody]{
	set("owner", readString, func(b *askBody) *string { return &b.owner }),
	set("reason", readString, func(b *askBody) *string { return &b.reason }),
	set("within", readTTL, func(b *askBody) *time.Duration { return &b.within }),
}

// askHolders answers POST /v1/locks/{name}/ask. Asking the same again changes nothing.
func (s *Server) askHolders(c *call) error {
	var body askBody
	if err := readBody(c, &body, askMembers); err != nil {
		return err
	}
	if body.reason == "" {
		return failField("reason", "The member reason is missing; it says why you ask.")
	}
	if _, err := requestNumber(c, ""); err != nil {
		return err
	}
	if body.within == 0 {
		body.within = defaultWithin
	}
	a := &command.Ask{Name: c.params[0], Owner: body.owner, Reason: body.reason, Within: int64(body.within)}
	if err := s.checkCare(c, a.GetName(), func(set *command.Settings) error { return locktable.CheckAsk(set, a) }); err != nil {
		return err
	}
	out, err := s.propose(c, command.FromAsk(a))
	switch {
	case err != nil:
		return err
	case out.Code == locktable.NotHeld:
		return errNobodyHolds
	case out.Code != locktable.Done:
		return refusal(&out)
	}
	b := append(c.buf[:0], `{"asked":true`...)
	if h := out.Holder; h != nil {
		day := s.daytimeSince(out.Now, h.Since)
		b = appendFirstHolder(b, &out, &day)
		b = append(b, `,"holder_count":`...)
		b = strconv.AppendInt(b, int64(h.Holders), 10)
	}
	c.buf = append(b, '}')
	return c.json(http.StatusOK)
}

var errNobodyHolds = fail(CodeNotHeld, "Nobody holds this lock.")

// checkCare checks a name, and by the given rule all the rest.
func (s *Server) checkCare(c *call, name string, rule func(*command.Settings) error) error {
	return s.check(c.ctx(), func(set *command.Settings) error {
		if err := locktable.CheckName(set, name); err != nil {
			return fail(CodeInvalidName, sentence(err.Error()))
		}
		if err := rule(set); err != nil {
			return fail(CodeInvalidRequest, sentence(err.Error()))
		}
		return nil
	})
}

// breakHolds answers DELETE /v1/locks/{name}/holders. It is for operators; what it does is written to the log.
func (s *Server) breakHolds(c *call) error {
	b, err := readBreakQuery(c.r.URL.RawQuery)
	if err != nil {
		return err
	}
	if _, err := requestNumber(c, ""); err != nil {
		return err
	}
	b.Name = c.params[0]
	newest := b.GetUpToToken() == 0
	if newest {
		b.UpToToken = math.MaxUint64 // for the check; nothing goes out with it
	}
	if err := s.checkCare(c, b.GetName(), func(set *command.Settings) error { return locktable.CheckBreak(set, b) }); err != nil {
		return err
	}
	if newest {
		if b.UpToToken, err = s.newestToken(c, b.GetName()); err != nil {
			return err
		}
	}
	out, err := s.backend.Propose(context.WithoutCancel(c.ctx()), command.FromBreak(b))
	if err != nil && mayHaveStayed(err) {
		s.logBreak(c, b, "unknown", 0)
	}
	switch {
	case errors.Is(err, node.ErrUnknown):
		return &Error{Code: CodeUnknown, cause: err, Detail: "The server could not learn whether the holds were broken. Look at the lock; repeating the request with the token " +
			strconv.FormatUint(b.GetUpToToken(), 10) + " breaks no later hold."}
	case err != nil:
		return backendError(context.WithoutCancel(c.ctx()), err)
	case out.Code == locktable.NotHeld:
		return fail(CodeNotHeld, "Nobody holds this lock with that token or an older one.")
	case out.Code != locktable.Released:
		return refusal(&out)
	}
	s.logBreak(c, b, "done", out.Released)
	c.buf = append(c.buf[:0], `{"broken":`...)
	c.buf = append(strconv.AppendInt(c.buf, int64(out.Released), 10), '}')
	return c.json(http.StatusOK)
}

// logBreak is the audit of a break. Names are in no other line of the log; here somebody has to answer for what was done.
func (s *Server) logBreak(c *call, b *command.Break, outcome string, holds int) {
	principal := "anybody"
	if s.key.set {
		principal = "api key"
	}
	s.log.Warn("holds of a lock were broken by request", "outcome", outcome, "name", b.GetName(), "holds", holds, "up_to_token", b.GetUpToToken(),
		"owner", b.GetOwner(), "reason", b.GetReason(), "principal", principal, "remote", c.r.RemoteAddr)
}

// newestToken returns the greatest token by which the lock is held now. With it, a break that travels twice cannot hit the
// next holder.
func (s *Server) newestToken(c *call, name string) (newest uint64, err error) {
	err = s.backend.Read(c.ctx(), func(t *locktable.Table, _ locktable.Time) {
		info, _ := t.Lock(name, math.MaxInt)
		for i := range info.Holders {
			newest = max(newest, info.Holders[i].Token)
		}
	})
	switch {
	case err != nil:
		return 0, backendError(c.ctx(), err)
	case newest == 0:
		return 0, errNobodyHolds
	}
	return newest, nil
}

// readBreakQuery is strict, like the bodies of v1.
func readBreakQuery(raw string) (*command.Break, error) {
	b := &command.Break{}
	err := readQuery(raw, func(name, value string) error {
		switch name {
		case "reason":
			b.Reason = value
		case "owner":
			b.Owner = value
		case "token":
			n, err := strconv.ParseUint(value, 10, 64)
			if err != nil || n == 0 || !digits(value) {
				return failField(name, "The parameter token must be a whole number, 1 or more.")
			}
			b.UpToToken = n
		default:
			return errNoParameter(name)
		}
		return nil
	})
	if err == nil && b.GetReason() == "" {
		err = failField("reason", "The parameter reason is missing; the holder and the log are told why the lock was broken.")
	}
	return b, err
}

// readQuery gives each parameter of a query to take. None may come twice.
func readQuery(raw string, take func(name, value string) error) error {
	if raw == "" {
		return nil
	}
	values, err := url.ParseQuery(raw)
	if err != nil {
		return fail(CodeInvalidRequest, "The part of the address after the question mark cannot be read.")
	}
	for name, v := range values {
		if len(v) > 1 {
			return failField(short(name), "The parameter "+quoteShort(name)+" is there more than once.")
		}
		if err := take(name, v[0]); err != nil {
			return err
		}
	}
	return nil
}

func errNoParameter(name string) error {
	return failField(short(name), "There is no parameter "+quoteShort(name)+" here.")
}

// handOverBody is the body of POST /v1/locks/{name}/handover.
type handOverBody struct{ key, to, session string }

var handOverMembers = []member[handOverBody]{
	set("key", readKey, func(b *handOverBody) *string { return &b.key }),
	set("to", readString, func(b *handOverBody) *string { return &b.to }),
	set("session", readKey, func(b *handOverBody) *string { return &b.session }),
}

// handOver answers POST /v1/locks/{name}/handover.
func (s *Server) handOver(c *call) error {
	var body handOverBody
	if err := readBody(c, &body, handOverMembers); err != nil {
		return err
	}
	if body.key == "" {
		return errKeyMissing
	}
	if body.to == "" {
		return failField("to", "The member to is missing; it names the owner who waits for the lock and shall have it next.")
	}
	request, err := requestNumber(c, body.session)
	if err != nil {
		return err
	}
	h := &command.HandOver{Name: c.params[0], Key: body.key, To: body.to, Session: body.session, Request: request}
	if err := s.checkCare(c, h.GetName(), func(set *command.Settings) error { return locktable.CheckHandOver(set, h) }); err != nil {
		return err
	}
	out, err := s.propose(c, command.FromHandOver(h))
	if err != nil {
		return err
	}
	if out.Code != locktable.Released {
		return s.refusalOfHold(c, h.GetKey(), &out)
	}
	c.buf = append(c.buf[:0], `{"released":true}`...)
	return c.json(http.StatusOK)
}
