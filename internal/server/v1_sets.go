package server

import (
	"bytes"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

// setBody is the body of POST /v1/locks: an acquire whose mode and slots stand with each name.
type setBody struct {
	acquireBody
	names []*command.SetMember
}

var setMembers = []member[setBody]{
	set("names", readSet, func(b *setBody) *[]*command.SetMember { return &b.names }),
	set("ttl", readTTL, func(b *setBody) *time.Duration { return &b.ttl }),
	set("wait", readSeconds, func(b *setBody) *time.Duration { return &b.wait }),
	set("poll", readTTL, func(b *setBody) *time.Duration { return &b.poll }),
	set("key", readKey, func(b *setBody) *string { return &b.key }),
	set("session", readKey, func(b *setBody) *string { return &b.session }),
	set("owner", readString, func(b *setBody) *string { return &b.owner }),
	set("metadata", readString, func(b *setBody) *string { return &b.metadata }),
	set("lock_delay", readDelay, func(b *setBody) *time.Duration { return &b.lockDelay }),
}

// setNameMembers are those of an element of names that is an object.
var setNameMembers = []member[command.SetMember]{
	set("name", readString, func(m *command.SetMember) *string { return &m.Name }),
	set("mode", readMode, func(m *command.SetMember) *locktable.Mode { return &m.Mode }),
	set("slots", readSlots, func(m *command.SetMember) *uint32 { return &m.Slots }),
}

var (
	errNames      = errors.New(`must be an array, each of whose elements is a name or an object such as {"name": "a", "mode": "shared"}`)
	errNamesEmpty = errors.New("must have at least one element")
)

// readSet reads the names of a set, each a string or an object. What the table decides (how many there may be, how names
// look) is not asked here.
func readSet(v jsontext.Value) ([]*command.SetMember, error) {
	if v.Kind() != '[' {
		return nil, errNames
	}
	dec := jsontext.NewDecoder(bytes.NewReader(v))
	if _, err := dec.ReadToken(); err != nil {
		return nil, errNames
	}
	var out []*command.SetMember
	for dec.PeekKind() != ']' {
		e, err := dec.ReadValue()
		if err != nil {
			return nil, errNames
		}
		m, err := readSetName(e)
		if err != nil {
			return nil, errors.New("is wrong at element " + strconv.Itoa(len(out)+1) + ": " + err.Error())
		}
		if slices.ContainsFunc(out, func(o *command.SetMember) bool { return o.GetName() == m.GetName() }) {
			return nil, errors.New("has the name of element " + strconv.Itoa(len(out)+1) + " twice")
		}
		if out = append(out, m); len(out) > maxSetNames {
			return nil, errors.New("must have at most " + strconv.Itoa(maxSetNames) + " elements")
		}
	}
	if len(out) == 0 {
		return nil, errNamesEmpty
	}
	return out, nil
}

// readSetName reads one element of names. Its error goes on in the middle of a sentence.
func readSetName(v jsontext.Value) (*command.SetMember, error) {
	m := &command.SetMember{}
	switch v.Kind() {
	case '"':
		m.Name = unquote(v)
		return m, nil
	case '{':
	default:
		return nil, errors.New("it is neither a name nor an object")
	}
	if err := decodeObject(jsontext.NewDecoder(bytes.NewReader(v)), m, setNameMembers); err != nil {
		detail := asError(err).Detail
		return nil, errors.New(strings.ToLower(detail[:1]) + strings.TrimSuffix(detail[1:], "."))
	}
	switch {
	case m.GetName() == "":
		return nil, errors.New("it has no name")
	case m.GetSlots() > 0 && m.GetMode() == locktable.Shared:
		return nil, errors.New("the member slots does not go with the mode shared")
	}
	return m, nil
}

// acquireSet answers POST /v1/locks.
func (s *Server) acquireSet(c *call) error {
	var body setBody
	if err := readBody(c, &body, setMembers); err != nil {
		return err
	}
	if body.names == nil {
		return failField("names", "The member names is missing.")
	}
	a, err := body.command()
	if err != nil {
		return err
	}
	a.Set = body.names
	if a.Request, err = numberOfNew(c, a.GetSession(), a.GetKey()); err != nil {
		return err
	}
	v := body.visit()
	if err := s.complete(c, a); err != nil {
		return err
	}
	if err := s.checkSet(c, a); err != nil {
		return err
	}
	out, err := s.acquire(c, a, v)
	if err != nil {
		return err
	}
	switch out.Code {
	case locktable.Granted:
		c.buf = appendSetGrant(c.buf[:0], a, &out)
		s.deliver(c, a, v, jsonType, c.buf)
	case locktable.Waiting:
		c.buf = appendPlace(c.buf[:0], a, &out)
		s.deliverPlace(c, a, v, http.StatusAccepted)
	default:
		return s.refusalOfSet(a, &out)
	}
	return nil
}

func (s *Server) checkSet(c *call, a *command.Acquire) error {
	return s.check(c.lasting(), func(set *command.Settings) error {
		for _, m := range a.GetSet() {
			if err := locktable.CheckName(set, m.GetName()); err != nil {
				return fail(CodeInvalidName, sentence(err.Error()))
			}
		}
		if err := locktable.CheckAcquire(set, a); err != nil {
			return fail(CodeInvalidRequest, sentence(err.Error()))
		}
		return nil
	})
}

// refusalOfSet is refusal, and says which lock of the set stands in the way.
func (s *Server) refusalOfSet(a *command.Acquire, out *locktable.Outcome) error {
	err := refusal(out)
	e := asError(err)
	if e.Code != CodeHeld || out.Holder == nil || out.Holder.Token == 0 {
		return err
	}
	if name := s.heldName(a.GetSet(), out.Holder.Token); name != "" {
		e.heldName = name
		e.Detail = "Somebody else holds " + strconv.Quote(name) + ", one of the locks of the set."
	}
	return e
}

// heldName returns the first of the names whose lock is held with that token, as far as this node has heard; "" if none.
func (s *Server) heldName(names []*command.SetMember, token uint64) (name string) {
	s.backend.ReadStale(func(t *locktable.Table, _ uint64, _ time.Duration) {
		for _, m := range names {
			l, _ := t.Lock(m.GetName(), maxShown)
			if slices.ContainsFunc(l.Holders, func(h locktable.HolderInfo) bool { return h.Token == token }) {
				name = m.GetName()
				return
			}
		}
	})
	return name
}

func appendSetGrant(b []byte, a *command.Acquire, out *locktable.Outcome) []byte {
	b = append(b, `{"key":"`...)
	b = append(b, a.GetKey()...)
	b = append(b, `","token":`...)
	b = strconv.AppendUint(b, out.Token, 10)
	b = appendLease(b, out)
	b = append(appendSetNames(append(b, ','), a), `,"waited":`...)
	b = appendMillis(b, out.Waited)
	return append(b, '}')
}

// appendSetNames appends the member names, as the client asked for them.
func appendSetNames(b []byte, a *command.Acquire) []byte {
	b = append(b, `"names":[`...)
	for i, m := range a.GetSet() {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"name":`...)
		b = appendString(b, m.GetName())
		b = append(appendKind(b, m.GetMode(), m.GetSlots()), '}')
	}
	return append(b, ']')
}

// deadlockDetail tells a cycle as a sentence.
func deadlockDetail(c *locktable.Chain) string {
	if c == nil || len(c.Waits) == 0 {
		return "The acquire would have waited for its own session, directly or through others."
	}
	var b strings.Builder
	b.WriteString("This would wait for itself: ")
	for i := range c.Waits {
		if i == maxCycleTold {
			b.WriteString("; and so on")
			break
		}
		if i > 0 {
			b.WriteString("; ")
		}
		w := &c.Waits[i]
		b.WriteString(somebody(w.Owner) + " waits for " + strconv.Quote(w.Lock))
		if w.Queued {
			b.WriteString(", behind " + somebody(w.HeldBy) + " in the queue")
		} else {
			b.WriteString(", held by " + somebody(w.HeldBy))
		}
	}
	return b.String() + "."
}

// somebody is an owner in a sentence.
func somebody(owner string) string {
	if owner == "" {
		return "somebody without a name"
	}
	return owner
}

// appendCycle tells a cycle to a program; a comma comes first.
func appendCycle(b []byte, c *locktable.Chain) []byte {
	b = append(b, `,"cycle":`...)
	return appendWaits(b, c.Waits)
}
