package client

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"time"
	"unicode/utf8"
)

// Option is a setting of a client.
type Option func(*config) error

type config struct {
	http     *http.Client
	tls      *tls.Config
	apiKey   string
	owner    string
	try      time.Duration
	patience time.Duration
	margin   time.Duration // negative: the default
	logger   *slog.Logger
	asleep   func() time.Duration
}

const (
	// DefaultTTL is how long a lease lasts without renewal, unless [TTL] says otherwise, or the server's maximum is less.
	DefaultTTL = 30 * time.Second
	// DefaultTryTimeout is how long one endpoint is given to answer before another one is asked; see [WithTryTimeout].
	DefaultTryTimeout = 3 * time.Second
	// DefaultPatience is how long a client goes on without any useful answer; see [WithPatience].
	DefaultPatience = 15 * time.Second
)

// WithHTTPClient makes all requests go through h. (Without it, each request that waits for a lock has a connection of its own on http
// endpoints, and shares one with others on https endpoints, by HTTP/2.) Its Timeout must be 0, since requests that wait for a lock take long; time-outs are
// the client's own. Redirects are never followed. Close does not close its idle connections.
func WithHTTPClient(h *http.Client) Option {
	return func(c *config) error {
		if h == nil || h.Timeout != 0 {
			return errors.New("doubledutch: WithHTTPClient wants a client without Timeout")
		}
		c.http = h
		return nil
	}
}

// WithTLSConfig is for https endpoints: which authorities to trust, and a certificate of one's own. It does not go with
// WithHTTPClient.
func WithTLSConfig(t *tls.Config) Option {
	return func(c *config) error {
		c.tls = t.Clone()
		return nil
	}
}

// WithAPIKey sends the key of the server with every request.
func WithAPIKey(key string) Option {
	return func(c *config) error {
		c.apiKey = key
		return nil
	}
}

// WithOwner says who the client is, for others to see; at most 256 bytes. The default is program@host, with the process id.
func WithOwner(owner string) Option {
	return func(c *config) error {
		c.owner = owner
		return nil
	}
}

// WithTryTimeout sets how long an endpoint may take for an answer before another one is asked as well, and the first one is avoided
// for a while. (Renewals are more impatient the closer the deadline.) It should be longer than the cluster takes to elect a leader.
func WithTryTimeout(d time.Duration) Option {
	return func(c *config) error {
		if d <= 0 {
			return errors.New("doubledutch: WithTryTimeout wants more than 0")
		}
		c.try = d
		return nil
	}
}

// WithPatience sets how long an operation tries to get an answer before it ends with [ErrUnavailable] or [ErrUnknown]. The time
// in the queue of a lock does not count, as long as a server tells that the place is kept. Negative: until the context ends.
func WithPatience(d time.Duration) Option {
	return func(c *config) error {
		c.patience = d
		return nil
	}
}

// WithMargin sets how long before the server can end a lease it counts as lost here, beside the 1 % for clocks that go at different
// rates. It is the time that your program needs to stop when a lease's context ends. The default is a twentieth of the ttl, at
// most half a second.
func WithMargin(d time.Duration) Option {
	return func(c *config) error {
		if d < 0 {
			return errors.New("doubledutch: WithMargin wants 0 or more")
		}
		c.margin = d
		return nil
	}
}

// WithLogger logs lost leases (warn), and failovers between endpoints (debug). Keys are never logged. The default is no log.
func WithLogger(l *slog.Logger) Option {
	return func(c *config) error {
		if l == nil {
			return errors.New("doubledutch: WithLogger wants a logger")
		}
		c.logger = l
		return nil
	}
}

// LockOption is a setting of one acquire.
type LockOption interface{ applyLock(*lockOptions) }

// SessionOption is a setting of a session.
type SessionOption interface{ applySession(*sessionOptions) }

// CommonOption is a setting of everything that has a lifetime and an owner.
type CommonOption interface {
	LockOption
	SessionOption
	TaskOption
}

// WaitOption is a setting of everything that can wait.
type WaitOption interface {
	LockOption
	TaskOption
}

// sessionOptions are what everything with a lifetime has.
type sessionOptions struct {
	ttl             time.Duration
	owner, metadata string
	key             string // id of the session, or key of the hold
}

type lockOptions struct {
	sessionOptions
	wait      time.Duration // negative: as long as the context lasts
	shared    bool
	slots     int
	kinds     map[string]wantedName // of single names of a set
	session   *Session
	lockDelay time.Duration
	onPlace   func(Place)
}

type commonOption func(*sessionOptions)

func (f commonOption) applySession(o *sessionOptions) { f(o) }
func (f commonOption) applyLock(o *lockOptions)       { f(&o.sessionOptions) }
func (f commonOption) applyTask(o *taskOptions)       { f(&o.sessionOptions) }

type lockOption func(*lockOptions)

func (f lockOption) applyLock(o *lockOptions) { f(o) }

// TTL is how long the lease lasts after the last renewal that the server acknowledged: how long others have to wait if this program
// dies. The client renews at a third of it. Not with a session, whose own ttl counts.
func TTL(d time.Duration) CommonOption {
	return commonOption(func(o *sessionOptions) { o.ttl = d })
}

// Owner says who holds it, for others to see, instead of the client's owner. At most 256 bytes.
func Owner(s string) CommonOption {
	return commonOption(func(o *sessionOptions) { o.owner = s })
}

// Metadata says why it is held, for others to see. At most 4096 bytes.
func Metadata(s string) CommonOption {
	return commonOption(func(o *sessionOptions) { o.metadata = s })
}

// Key brings a key (or the id of a session) made by [NewKey] before. The same key again is the same request: a program that was
// started anew gets the hold that it had. Such a key is not given up when an acquire fails or its context ends; the program is
// expected to come back with it.
func Key(key string) CommonOption {
	return commonOption(func(o *sessionOptions) { o.key = key })
}

// Wait bounds the time in the queue, by the client's clock. Without it, Lock and Once wait as long as their context lasts. 0 or less is
// not to wait at all.
func Wait(d time.Duration) WaitOption { return waitOption(max(d, 0)) }

type waitOption time.Duration

func (d waitOption) applyLock(o *lockOptions) { o.wait = time.Duration(d) }
func (d waitOption) applyTask(o *taskOptions) { o.wait = time.Duration(d) }

// Shared acquires the lock (all locks of a set) together with other shared holders, as a reader.
func Shared() LockOption { return lockOption(func(o *lockOptions) { o.shared = true }) }

// Slots makes the lock a semaphore with n permits and acquires one. All users of the lock must say the same n.
func Slots(n int) LockOption { return lockOption(func(o *lockOptions) { o.slots = given(n) }) }

// given makes a number of slots that is none negative, so that it is refused and does not count as none being given.
func given(n int) int {
	if n < 1 {
		return -1
	}
	return n
}

// SharedFor acquires some locks of a set as a reader.
func SharedFor(names ...string) LockOption {
	return lockOption(func(o *lockOptions) { o.kindFor(names, wantedName{Mode: modeShared}) })
}

// SlotsFor acquires one of n permits of some locks of a set.
func SlotsFor(n int, names ...string) LockOption {
	return lockOption(func(o *lockOptions) { o.kindFor(names, wantedName{Slots: given(n)}) })
}

func (o *lockOptions) kindFor(names []string, kind wantedName) {
	if o.kinds == nil {
		o.kinds = map[string]wantedName{}
	}
	for _, name := range names {
		kind.Name = name
		o.kinds[name] = kind
	}
}

// InSession acquires the lock for a session: it is renewed with the session, and gone with it. [Session.Lock] is shorter.
func InSession(s *Session) LockOption { return lockOption(func(o *lockOptions) { o.session = s }) }

// LockDelay keeps the lock from everybody for so long if this hold expires or is broken (not if it is released), so that a holder
// that notices late has time to stop. At most an hour.
func LockDelay(d time.Duration) LockOption {
	return lockOption(func(o *lockOptions) { o.lockDelay = d })
}

// OnPlace calls f with the place in the queue each time that the server tells of it: first when
// the wait has lasted for a second, then less often. f must not block.
func OnPlace(f func(Place)) LockOption { return lockOption(func(o *lockOptions) { o.onPlace = f }) }

// Place is where a waiting acquire stands.
type Place struct {
	Position     int           // 1 is next
	QueueLength  int           // how many wait
	ExpectedWait time.Duration // a guess from earlier holds; 0 if there is none
}

const modeShared = "shared"

// check refuses what can be seen to be wrong without asking a server.
func (o *lockOptions) check(names []string) error {
	switch {
	case len(names) == 0:
		return refuse("no lock is named")
	case o.session != nil && o.ttl > 0:
		return refuse("a lock of a session has no ttl of its own")
	case o.shared && o.slots > 0:
		return refuse("a semaphore has no shared mode")
	case o.slots < 0:
		return refuse("slots must be 1 or more")
	}
	for name, kind := range o.kinds {
		switch {
		case !slices.Contains(names, name):
			return refuse(fmt.Sprintf("%.80q is not among the locks that are asked for", name))
		case kind.Slots < 0:
			return refuse("slots must be 1 or more")
		}
	}
	if err := o.sessionOptions.check(); err != nil {
		return err
	}
	for _, name := range names {
		if err := checkName(name); err != nil {
			return err
		}
	}
	return nil
}

func (o *sessionOptions) check() error {
	switch {
	case o.ttl < 0 || o.ttl > 0 && o.ttl < time.Millisecond:
		return refuse("the ttl must be a millisecond or more")
	case o.key != "" && !isKey(o.key):
		return refuse("a key or id has 32 characters of 0-9A-Za-z")
	}
	return nil
}

func checkName(name string) error {
	if name == "" || name == "." || name == ".." || len(name) > 512 || !utf8.ValidString(name) {
		return refuse(fmt.Sprintf("%.80q cannot be a name", name))
	}
	return nil
}

func refuse(why string) error { return fmt.Errorf("%w: %s", ErrRefused, why) }
