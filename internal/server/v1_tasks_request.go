package server

import (
	"errors"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/schedule"
)

// claimBody is the body of POST /v1/tasks/{name}. Zero values mean that the member was left out, except for keep.
type claimBody struct {
	ttl, wait, poll, keep, retryDelay, atLeast, every time.Duration
	key, session, owner, metadata, cron, zone         string
	maxAttempts                                       uint32
	atMostOnce, keepSet, zoneSet                      bool
}

var claimMembers = []member[claimBody]{
	set("ttl", readTTL, func(b *claimBody) *time.Duration { return &b.ttl }),
	set("wait", readSeconds, func(b *claimBody) *time.Duration { return &b.wait }),
	set("poll", readTTL, func(b *claimBody) *time.Duration { return &b.poll }),
	{name: "keep", read: func(b *claimBody, v jsontext.Value) (err error) {
		b.keep, err = readSeconds(v)
		b.keepSet = true
		return err
	}},
	set("max_attempts", readCount, func(b *claimBody) *uint32 { return &b.maxAttempts }),
	set("retry_delay", readDelay, func(b *claimBody) *time.Duration { return &b.retryDelay }),
	set("at_most_once", readBool, func(b *claimBody) *bool { return &b.atMostOnce }),
	set("every", readTTL, func(b *claimBody) *time.Duration { return &b.every }),
	set("cron", readNonEmpty, func(b *claimBody) *string { return &b.cron }),
	{name: "zone", read: func(b *claimBody, v jsontext.Value) (err error) {
		b.zone, err = readNonEmpty(v)
		b.zoneSet = true
		return err
	}},
	set("at_least", readDelay, func(b *claimBody) *time.Duration { return &b.atLeast }),
	set("key", readKey, func(b *claimBody) *string { return &b.key }),
	set("session", readKey, func(b *claimBody) *string { return &b.session }),
	set("owner", readString, func(b *claimBody) *string { return &b.owner }),
	set("metadata", readString, func(b *claimBody) *string { return &b.metadata }),
}

var (
	errCount = errors.New("must be a whole number, 1 or more")
	errBool  = errors.New("must be true or false")
	errEmpty = errors.New("must not be empty")
	errToken = errors.New("must be a token, a whole number of 1 or more")
)

func readCount(v jsontext.Value) (uint32, error) {
	n, err := readSlots(v)
	if err != nil {
		return 0, errCount
	}
	return n, nil
}

func readBool(v jsontext.Value) (bool, error) {
	switch v.Kind() {
	case 't':
		return true, nil
	case 'f':
		return false, nil
	}
	return false, errBool
}

func readNonEmpty(v jsontext.Value) (string, error) {
	s, err := readString(v)
	if err == nil && s == "" {
		err = errEmpty
	}
	return s, err
}

func readToken(v jsontext.Value) (uint64, error) {
	if v.Kind() != '0' {
		return 0, errToken
	}
	return parseToken(string(v))
}

func parseToken(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n == 0 || n > maxToken || !digits(s) {
		return 0, errToken
	}
	return n, nil
}

// command returns the claim that b asks for, without name, slot and request number.
func (b *claimBody) command() (*command.ClaimTask, error) {
	switch {
	case b.session != "" && b.ttl != 0:
		return nil, failField("ttl", "The member ttl must be left out with a session, whose lifetime governs.")
	case b.session != "" && b.session == b.key:
		return nil, failField("key", "The member key must differ from the session's id.")
	case b.every != 0 && b.cron != "":
		return nil, failField("cron", "The members every and cron exclude each other.")
	case b.zoneSet && b.cron == "":
		return nil, failField("zone", "The member zone goes with cron only.")
	case b.poll != 0 && b.wait == 0:
		return nil, errPollAlone
	}
	keep := int64(-1) // for good
	if b.keepSet && b.keep >= 0 {
		keep = int64(b.keep)
	}
	return &command.ClaimTask{
		Key: b.key, Session: b.session, Ttl: int64(b.ttl), Wait: int64(b.wait), Keep: keep, MaxAttempts: b.maxAttempts,
		RetryDelay: int64(b.retryDelay), AtMostOnce: b.atMostOnce, AtLeast: int64(b.atLeast), Owner: b.owner, Metadata: b.metadata,
	}, nil
}

// schedule returns the schedule that b names, or nil if it names none.
func (b *claimBody) schedule() (*schedule.Schedule, error) {
	switch {
	case b.every != 0:
		s, err := schedule.Every(b.every)
		if err != nil {
			return nil, failField("every", sentence(err.Error()))
		}
		return s, nil
	case b.cron != "":
		s, err := schedule.Cron(b.cron, b.zone)
		if errors.Is(err, schedule.ErrZone) {
			return nil, failField("zone", sentence(err.Error()))
		}
		if err != nil {
			return nil, failField("cron", sentence(err.Error()))
		}
		return s, nil
	}
	return nil, nil
}

// finishBody is the body of POST /v1/tasks/{name}/complete and …/fail; text is the result or the error.
type finishBody struct{ key, session, text string }

func finishMembers(text string) []member[finishBody] {
	return []member[finishBody]{
		set("key", readKey, func(b *finishBody) *string { return &b.key }),
		set(text, readString, func(b *finishBody) *string { return &b.text }),
		set("session", readKey, func(b *finishBody) *string { return &b.session }),
	}
}

var (
	completeMembers = finishMembers("result")
	failMembers     = finishMembers("error")
)

// renewTaskBody is the body of POST /v1/tasks/{name}/renew.
type renewTaskBody struct {
	key, session string
	ttl          time.Duration
	progress     *string
}

var renewTaskMembers = []member[renewTaskBody]{
	set("key", readKey, func(b *renewTaskBody) *string { return &b.key }),
	set("ttl", readTTL, func(b *renewTaskBody) *time.Duration { return &b.ttl }),
	set("session", readKey, func(b *renewTaskBody) *string { return &b.session }),
	{name: "progress", read: func(b *renewTaskBody, v jsontext.Value) error {
		s, err := readString(v)
		b.progress = &s
		return err
	}},
}

// settleBody is the body of POST /v1/tasks/{name}/settle.
type settleBody struct {
	verdict       command.TaskVerdict
	token         uint64
	result, error string
}

var errVerdict = errors.New(`must be "done", "failed" or "retry"`)

var settleMembers = []member[settleBody]{
	set("verdict", readVerdict, func(b *settleBody) *command.TaskVerdict { return &b.verdict }),
	set("token", readToken, func(b *settleBody) *uint64 { return &b.token }),
	set("result", readString, func(b *settleBody) *string { return &b.result }),
	set("error", readString, func(b *settleBody) *string { return &b.error }),
}

func readVerdict(v jsontext.Value) (command.TaskVerdict, error) {
	s, err := readString(v)
	if err != nil {
		return 0, errVerdict
	}
	switch s {
	case "done":
		return command.TaskVerdict_VERDICT_DONE, nil
	case "failed":
		return command.TaskVerdict_VERDICT_FAILED, nil
	case "retry":
		return command.TaskVerdict_VERDICT_RETRY, nil
	}
	return 0, errVerdict
}

// check refuses what contradicts itself.
func (b *settleBody) check() error {
	switch {
	case b.verdict == command.TaskVerdict_VERDICT_UNSPECIFIED:
		return failField("verdict", "The member verdict is missing.")
	case b.token == 0:
		return failField("token", "The member token is missing; it says which attempt the verdict is about.")
	case b.result != "" && b.verdict != command.TaskVerdict_VERDICT_DONE:
		return failField("result", "The member result goes with the verdict done only.")
	case b.error != "" && b.verdict == command.TaskVerdict_VERDICT_DONE:
		return failField("error", "The member error does not go with the verdict done.")
	}
	return nil
}
