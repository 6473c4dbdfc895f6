package locktable

import (
	"errors"
	"fmt"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"github.com/doubledutch-lock/doubledutch/internal/command"
)

// All limits of the lock table, as they are until a Configure changes them. The door's limits (sizes of headers and
// bodies, connections) stand in the server's own file.
const (
	// Day is here because leases are counted in days and never in calendar units.
	day = 24 * time.Hour

	defaultMaxTTL         = 366 * day
	defaultMaxWait        = 366 * day
	defaultMaxLockDelay   = time.Hour
	defaultWaiterGrace    = 15 * time.Second
	defaultSpentRetention = 10 * time.Minute
	defaultMaxSpent       = 1 << 18
	defaultMaxLocks       = 2_000_000
	defaultMaxWaiters     = 20_000
	defaultMaxHolders     = 20_000
	defaultMaxClaims      = 4_000_000
	defaultMaxTextBytes   = 512 << 20
	defaultMaxSessions    = 1_000_000
	defaultMaxKeys        = 10_000
	defaultMaxReplies     = 64
	defaultMaxName        = 512
	defaultMaxOwner       = 256
	defaultMaxMetadata    = 4 << 10
	defaultMaxSlots       = 1_000_000

	// MinTTL is the shortest lifetime; shorter wishes are rounded up to it by the door.
	MinTTL = time.Millisecond

	// Durations beyond this are refused in settings, so that a clock plus a duration cannot overflow.
	maxDuration = 100 * 366 * day
	// A lock with all its claims is one record of a snapshot, which must be readable again: all texts, and the rest of as many
	// claims as a lock can have (at most three times 1<<16, of less than 200 bytes).
	maxTextBytes = maxRecordBytes - 3<<16*200
	// All locks of a set are looked at whenever one of them is.
	maxMaxSet = 1024
	// No setting may allow strings that do not fit a log entry many times over.
	maxStringLimit = 64 << 10
)

// DefaultSettings returns the limits of a new table. The caller owns the result. The fields of version 2 are left 0, which
// stands for their defaults: a cluster whose members know version 1 only can be given these settings.
func DefaultSettings() *command.Settings {
	return &command.Settings{
		MaxTtl:               int64(defaultMaxTTL),
		MaxWait:              int64(defaultMaxWait),
		MaxLockDelay:         int64(defaultMaxLockDelay),
		WaiterGrace:          int64(defaultWaiterGrace),
		SpentRetention:       int64(defaultSpentRetention),
		MaxSpent:             defaultMaxSpent,
		MaxLocks:             defaultMaxLocks,
		MaxWaitersPerLock:    defaultMaxWaiters,
		MaxSessions:          defaultMaxSessions,
		MaxKeysPerSession:    defaultMaxKeys,
		MaxRepliesPerSession: defaultMaxReplies,
		MaxName:              defaultMaxName,
		MaxOwner:             defaultMaxOwner,
		MaxMetadata:          defaultMaxMetadata,
		MaxSlots:             defaultMaxSlots,
		MaxHoldersPerLock:    defaultMaxHolders,
		MaxClaims:            defaultMaxClaims,
		MaxTextBytes:         defaultMaxTextBytes,
	}
}

// CheckSettings returns what is wrong with s, or nil. Every field of version 1 must be set: settings are replaced as a whole.
func CheckSettings(s *command.Settings) error {
	if s == nil {
		return errors.New("settings are missing")
	}
	for _, d := range []struct {
		name  string
		value int64
	}{
		{"max_ttl", s.GetMaxTtl()},
		{"max_wait", s.GetMaxWait()},
		{"max_lock_delay", s.GetMaxLockDelay()},
		{"waiter_grace", s.GetWaiterGrace()},
		{"spent_retention", s.GetSpentRetention()},
	} {
		if d.value < int64(MinTTL) || d.value > int64(maxDuration) {
			return fmt.Errorf("setting %s must be between %v and %v", d.name, MinTTL, maxDuration)
		}
	}
	for _, n := range []struct {
		name  string
		value uint64
		most  uint64
	}{
		{"max_spent", uint64(s.GetMaxSpent()), 1 << 26},
		{"max_locks", uint64(s.GetMaxLocks()), 1 << 30},
		{"max_waiters_per_lock", uint64(s.GetMaxWaitersPerLock()), 1 << 16},
		{"max_sessions", uint64(s.GetMaxSessions()), 1 << 30},
		{"max_keys_per_session", uint64(s.GetMaxKeysPerSession()), 1 << 24},
		{"max_replies_per_session", uint64(s.GetMaxRepliesPerSession()), 1 << 12},
		{"max_name", uint64(s.GetMaxName()), maxStringLimit},
		{"max_owner", uint64(s.GetMaxOwner()), maxStringLimit},
		{"max_metadata", uint64(s.GetMaxMetadata()), maxStringLimit},
		{"max_slots", uint64(s.GetMaxSlots()), 1 << 30},
		{"max_holders_per_lock", uint64(s.GetMaxHoldersPerLock()), 1 << 16},
		{"max_claims", uint64(s.GetMaxClaims()), 1 << 30},
		{"max_text_bytes", s.GetMaxTextBytes(), maxTextBytes},
	} {
		if n.value < 1 || n.value > n.most {
			return fmt.Errorf("setting %s must be between 1 and %d", n.name, n.most)
		}
	}
	return checkSettings2(s)
}

// SameSettings tells whether a and b allow the same.
func SameSettings(a, b *command.Settings) bool { return proto.Equal(withDefaults(a), withDefaults(b)) }

// CheckName returns what is wrong with a lock's name, or nil: 1 to Settings.MaxName bytes of UTF-8 without control
// characters, and neither "." nor "..".
func CheckName(s *command.Settings, name string) error { return checkName(s, "the lock's name", name) }

func checkName(s *command.Settings, what, name string) error {
	switch {
	case name == "":
		return errors.New(what + " is empty")
	case len(name) > int(s.GetMaxName()):
		return errors.New(what + " is longer than " + strconv.Itoa(int(s.GetMaxName())) + " bytes")
	case name == "." || name == "..":
		return errors.New(what + ` must not be "." or ".."`)
	}
	return checkText(what, name, false)
}

// checkText refuses invalid UTF-8, and control characters; with lines, tab and line ends may pass.
func checkText(what, s string, lines bool) error {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' || c >= 0x7f {
			return checkUnicode(what, s, lines)
		}
	}
	return nil
}

func checkUnicode(what, s string, lines bool) error {
	if !utf8.ValidString(s) {
		return errors.New(what + " is not valid UTF-8")
	}
	for _, r := range s {
		if lines && (r == '\n' || r == '\t' || r == '\r') {
			continue
		}
		if unicode.IsControl(r) {
			return errors.New(what + " contains a control character")
		}
	}
	return nil
}

// CheckTTL returns what is wrong with a lifetime, or nil.
func CheckTTL(s *command.Settings, ttl time.Duration) error {
	return checkDuration("the ttl", ttl, MinTTL, s.GetMaxTtl())
}

func checkDuration(what string, d, least time.Duration, most int64) error {
	if d < least || int64(d) > most {
		return fmt.Errorf("%s must be between %s and %s seconds", what, seconds(least), seconds(time.Duration(most)))
	}
	return nil
}

func seconds(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) }

// checkOwner checks the two free texts that a client may say of itself.
func checkOwner(s *command.Settings, owner, metadata string) error {
	if len(owner) > int(s.GetMaxOwner()) {
		return errors.New("the owner is longer than " + strconv.Itoa(int(s.GetMaxOwner())) + " bytes")
	}
	if len(metadata) > int(s.GetMaxMetadata()) {
		return errors.New("the metadata is longer than " + strconv.Itoa(int(s.GetMaxMetadata())) + " bytes")
	}
	if err := checkText("the owner", owner, false); err != nil {
		return err
	}
	return checkText("the metadata", metadata, true)
}

// CheckAcquire returns the first rule that a breaks, or nil. The door asks before it proposes, to answer early; Apply
// asks again, because the log decides.
func CheckAcquire(s *command.Settings, a *command.Acquire) error {
	if err := checkLocks(s, a); err != nil {
		return err
	}
	if _, ok := ParseKey(a.GetKey()); !ok {
		return errKey
	}
	if err := checkLease(s, a); err != nil {
		return err
	}
	if a.GetWait() > 0 && a.GetWait() > s.GetMaxWait() {
		return errors.New("the wait must be at most " + seconds(time.Duration(s.GetMaxWait())) + " seconds")
	}
	if err := checkDuration("the lock delay", time.Duration(a.GetLockDelay()), 0, s.GetMaxLockDelay()); err != nil {
		return err
	}
	return checkOwner(s, a.GetOwner(), a.GetMetadata())
}

var (
	errKey     = errors.New("the key must be 32 characters of 0-9, A-Z, a-z")
	errSession = errors.New("the session id must be 32 characters of 0-9, A-Z, a-z")
)

// checkLease checks that either a lifetime or a session is named, and that request numbers come with a session.
func checkLease(s *command.Settings, a *command.Acquire) error {
	if a.GetSession() == "" {
		if a.GetRequest() != 0 {
			return errRequest
		}
		return CheckTTL(s, time.Duration(a.GetTtl()))
	}
	if _, ok := ParseKey(a.GetSession()); !ok {
		return errSession
	}
	if a.GetSession() == a.GetKey() {
		return errors.New("the key must differ from the session id")
	}
	if a.GetTtl() != 0 {
		return errors.New("the ttl belongs to the session; leave it out")
	}
	return nil
}

var errRequest = errors.New("a request number needs a session")

// checkLocks checks what an acquire says about the lock, or the locks, that it is for.
func checkLocks(s *command.Settings, a *command.Acquire) error {
	if len(a.GetSet()) > 0 {
		return checkSet(s, a)
	}
	if err := CheckName(s, a.GetName()); err != nil {
		return err
	}
	return checkKind(s, a.GetMode(), a.GetSlots())
}

func checkKind(s *command.Settings, mode Mode, slots uint32) error {
	switch {
	case mode != Exclusive && mode != Shared:
		return errors.New("the mode must be exclusive or shared")
	case slots > 0 && mode == Shared:
		return errors.New("slots and the mode shared exclude each other")
	case slots > s.GetMaxSlots():
		return errors.New("the slots must be at most " + strconv.Itoa(int(s.GetMaxSlots())))
	}
	return nil
}

// CheckOpenSession returns the first rule that o breaks, or nil.
func CheckOpenSession(s *command.Settings, o *command.OpenSession) error {
	if _, ok := ParseKey(o.GetId()); !ok {
		return errSession
	}
	if err := CheckTTL(s, time.Duration(o.GetTtl())); err != nil {
		return err
	}
	return checkOwner(s, o.GetOwner(), o.GetMetadata())
}

// checkRenewal checks an optional new lifetime and a request number.
func checkRenewal(s *command.Settings, ttl int64, session string, request uint64) error {
	if request != 0 && session == "" {
		return errRequest
	}
	if ttl == 0 {
		return nil
	}
	return CheckTTL(s, time.Duration(ttl))
}
