package server

import (
	"strconv"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

// acquireBody is the body of POST /v1/locks/{name}. Zero values mean that the member was left out: none of them is a
// value that a client can send, except wait and lock_delay, where 0 is the default.
type acquireBody struct {
	ttl, wait, poll, lockDelay    time.Duration
	key, session, owner, metadata string
	mode                          locktable.Mode
	slots                         uint32
}

var acquireMembers = []member[acquireBody]{
	set("ttl", readTTL, func(b *acquireBody) *time.Duration { return &b.ttl }),
	set("wait", readSeconds, func(b *acquireBody) *time.Duration { return &b.wait }),
	set("poll", readTTL, func(b *acquireBody) *time.Duration { return &b.poll }),
	set("key", readKey, func(b *acquireBody) *string { return &b.key }),
	set("mode", readMode, func(b *acquireBody) *locktable.Mode { return &b.mode }),
	set("slots", readSlots, func(b *acquireBody) *uint32 { return &b.slots }),
	set("session", readKey, func(b *acquireBody) *string { return &b.session }),
	set("owner", readString, func(b *acquireBody) *string { return &b.owner }),
	set("metadata", readString, func(b *acquireBody) *string { return &b.metadata }),
	set("lock_delay", readDelay, func(b *acquireBody) *time.Duration { return &b.lockDelay }),
}

// renewBody is the body of POST /v1/locks/{name}/renew.
type renewBody struct {
	key, session string
	ttl          time.Duration
}

var renewMembers = []member[renewBody]{
	set("key", readKey, func(b *renewBody) *string { return &b.key }),
	set("ttl", readTTL, func(b *renewBody) *time.Duration { return &b.ttl }),
	set("session", readKey, func(b *renewBody) *string { return &b.session }),
}

// holdsMembers are those of POST /v1/holds/renew.
var holdsMembers = renewMembers[:2]

var errKeyMissing = failField("key", "The member key is missing.")

// sessionBody is the body of POST /v1/sessions.
type sessionBody struct {
	id, owner, metadata string
	ttl                 time.Duration
}

var sessionMembers = []member[sessionBody]{
	set("id", readKey, func(b *sessionBody) *string { return &b.id }),
	set("ttl", readTTL, func(b *sessionBody) *time.Duration { return &b.ttl }),
	set("owner", readString, func(b *sessionBody) *string { return &b.owner }),
	set("metadata", readString, func(b *sessionBody) *string { return &b.metadata }),
}

// ttlBody is the body of POST /v1/sessions/{id}/renew.
type ttlBody struct{ ttl time.Duration }

var ttlMembers = []member[ttlBody]{
	set("ttl", readTTL, func(b *ttlBody) *time.Duration { return &b.ttl }),
}

// command returns the acquire that b asks for, except for the name. The rules that b itself can break are checked here,
// so that the answer can name the member. Without a session and a ttl, the ttl is 0.
func (b *acquireBody) command() (*command.Acquire, error) {
	switch {
	case b.session != "" && b.ttl != 0:
		return nil, failField("ttl", "The member ttl must be left out with a session, whose lifetime governs.")
	case b.session != "" && b.session == b.key:
		return nil, failField("key", "The member key must differ from the session's id.")
	case b.slots > 0 && b.mode == locktable.Shared:
		return nil, failField("slots", "The member slots does not go with the mode shared.")
	case b.poll != 0 && b.wait == 0:
		return nil, errPollAlone
	}
	return &command.Acquire{
		Key: b.key, Session: b.session, Ttl: int64(b.ttl), Wait: int64(b.wait), Mode: b.mode, Slots: b.slots,
		Owner: b.owner, Metadata: b.metadata, LockDelay: int64(b.lockDelay),
	}, nil
}

// visit returns how the request waits. Before the key is filled in, it is missing if the server is to make it.
func (b *acquireBody) visit() visit { return visit{ownKey: b.key == "", poll: b.poll} }

var errPollAlone = failField("poll", "The member poll says how long to wait at a time; it goes with a wait only.")

// Headers of v1.
const (
	headerKey     = "Lock-Key"
	headerSession = "Lock-Session"
	headerRequest = "Idempotency-Key"
)

// headerValue returns the only value of a header; "" if it is not there.
func headerValue(c *call, name string) (string, error) {
	values := c.r.Header[name]
	switch len(values) {
	case 0:
		return "", nil
	case 1:
		return values[0], nil
	}
	return "", failField(name, "The header "+name+" is there more than once.")
}

// headerSecret returns a key or session id from a header; "" if it is not there.
func headerSecret(c *call, name string) (string, error) {
	v, err := headerValue(c, name)
	if err != nil || v == "" {
		return "", err
	}
	if _, ok := locktable.ParseKey(v); !ok {
		return "", failField(name, "The header "+name+" "+errKey.Error()+".")
	}
	return v, nil
}

// lockKey returns the key of the header Lock-Key, which must be there.
func lockKey(c *call) (string, error) {
	key, err := headerSecret(c, headerKey)
	if err == nil && key == "" {
		err = failField(headerKey, "The header Lock-Key is missing; it carries the key that the lock was acquired with.")
	}
	return key, err
}

// requestNumber returns the number of the request inside its session; 0 if there is none.
func requestNumber(c *call, session string) (uint64, error) {
	v, err := headerValue(c, headerRequest)
	if err != nil || v == "" {
		return 0, err
	}
	if session == "" {
		return 0, failField(headerRequest, "The header Idempotency-Key numbers the requests of a session; without one, repeating the request with the same key is safe.")
	}
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil || n == 0 || !digits(v) {
		return 0, failField(headerRequest, "The header Idempotency-Key must be the number of the request inside its session, 1 or more.")
	}
	return n, nil
}

// numberOfNew is requestNumber for a request that may bring a new key.
func numberOfNew(c *call, session, key string) (uint64, error) {
	n, err := requestNumber(c, session)
	if err == nil && n != 0 && key == "" {
		return 0, errNumberWithoutKey
	}
	return n, err
}

// With a key of the server's making, the request could not be repeated: its repetition would name another key.
var errNumberWithoutKey = failField("key", "With the header Idempotency-Key, the member key must be there: choose a key and send it again with each repetition.")
