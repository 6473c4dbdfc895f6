package server

import (
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

// brokenBy is who ended a hold by order, and why.
type brokenBy struct{ by, reason string }

// brokenIn returns why the hold of the key was broken, or nil if it was not or that is forgotten.
func brokenIn(t *locktable.Table, key locktable.Key) *brokenBy {
	by, reason, ok := t.Broken(key)
	if !ok {
		return nil
	}
	return &brokenBy{by, reason}
}

func (b *brokenBy) refusal() error {
	e := fail(CodeBroken, brokenSentence+" by "+orOperator(b.by)+": "+b.reason)
	e.Detail = sentence(e.Detail)
	e.broken = b
	return e
}

const brokenSentence = "The hold of this key was ended"

func orOperator(by string) string {
	if by == "" {
		return "an operator"
	}
	return by
}

// brokenDetail is the sentence for an outcome Broken.
func brokenDetail(out *locktable.Outcome) string {
	if out.Detail == "" {
		return outcomeErrors[locktable.Broken].Detail
	}
	return sentence(brokenSentence + " " + out.Detail)
}

// refusal is the function refusal for a request by a key: of a broken one it finds out by whom and why.
func (s *Server) refusal(c *call, key string, out *locktable.Outcome) error {
	err := refusal(out)
	if out.Code != locktable.Broken {
		return err
	}
	k, _ := locktable.ParseKey(key)
	var broken *brokenBy
	_ = s.backend.Read(c.ctx(), func(t *locktable.Table, _ locktable.Time) { broken = brokenIn(t, k) })
	if broken == nil {
		return err
	}
	return broken.refusal()
}

// daytimeOfError returns what is needed to tell the times of day in an error.
func (s *Server) daytimeOfError(e *Error) *daytime {
	if e.held == nil || e.held.Holder == nil {
		return nil
	}
	day := s.daytimeSince(e.held.Now, e.held.Holder.Since)
	return &day
}

// appendBroken appends by whom and why a hold was broken, with a comma before each.
func appendBroken(b []byte, by *brokenBy) []byte {
	if by == nil {
		return b
	}
	if by.by != "" {
		b = append(b, `,"by":`...)
		b = appendString(b, by.by)
	}
	b = append(b, `,"reason":`...)
	return appendString(b, by.reason)
}
