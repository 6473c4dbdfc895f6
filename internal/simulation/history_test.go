package simulation

import (
	"sync"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

// The kinds of requests in a history.
const (
	opAcquire = iota
	opRenew
	opRelease
	opHandOver
	opFinish
)

// attempt is one request for a key and what the client was told.
type attempt struct {
	op             int
	copied         bool // a late copy that somebody else sent
	sent, answered time.Time
	wait           time.Duration // of an acquire; negative: without end
	left           bool          // the client hung up
	life           *life
	answer
	ttl    int64  // of a renewal: unlike any other
	number uint64 // in the session
}

// claim is all that clients know of one key.
type claim struct {
	lock    string
	key     string
	session *shared // nil: private
	mode    command.Mode
	slots   uint32
	first   time.Time // when it was first asked for
	others  []*claim  // the other locks of the set; only of its first one
	ofSet   bool
	task    *terms // nil: a lock
	sliced  bool   // its client waits in slices, and comes back

	mu       sync.Mutex // guards all below
	attempts []*attempt
	token    uint64    // as acknowledged; 0: never
	ack      time.Time // of the first acknowledged grant
	sent     time.Time // of the newest acknowledged request that fixed the lease
	until    time.Time // the client's belief, or when it sent the release
	released time.Time // when a release was first sent, by whomever
	gone     time.Time // when the release was acknowledged
	broken   time.Time // when an operator ended the hold, by the log; filled in before the history is judged
	used     time.Time // when anybody last did anything for the key
	usedAt   locktable.Time
}

// shared is a session that a client has opened.
type shared struct {
	id string

	mu    sync.Mutex // guards all below
	until time.Time  // the client's belief
	ended time.Time  // when its end was first asked for
	done  bool       // its end was acknowledged
}

// read is what a linearizable read of a lock has shown.
type read struct {
	lock       string
	begin, end time.Time
	through    string         // the node
	now        locktable.Time // as it was there
	holders    []uint64       // tokens of holds that have not expired
	expiring   []uint64       // tokens of holds that are due
	waiters    []string       // their keys, in order
}

// history is what the clients of a run have seen.
type history struct {
	mu      sync.Mutex // guards all below
	claims  []*claim
	reads   []*read
	sights  []*sight
	settled []string // tasks that an operator has decided about, as locks
}

func (h *history) begin(c *claim) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.claims = append(h.claims, c)
}

func (h *history) saw(r *read) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reads = append(h.reads, r)
}

// The margin for the rates of clocks that clients reckon with (rho of reliability.md), in percent.
const rho = 1

// validity is how long a client may believe in a lease that was told to last d.
func validity(d time.Duration) time.Duration { return d*100/(100+rho) - time.Microsecond }

// note puts an answered attempt into the claim, and what follows from it for the client's belief.
func (c *claim) note(w *world, a *attempt) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.attempts = append(c.attempts, a)
	c.used, c.usedAt = a.answered, w.book.now()
	if a.err != nil {
		return
	}
	held := c.token != 0 && c.ack.Before(a.sent) && a.answered.Before(c.until) && c.released.IsZero() &&
		(a.out.Code != locktable.Broken || !w.book.wasBroken(c))
	switch {
	case a.op == opAcquire && a.out.Code == locktable.Granted, a.op == opRenew && a.out.Code == locktable.Renewed:
		c.granted(w, a)
	case held && a.op == opAcquire && a.out.Code != locktable.Cancelled, held && a.op == opRenew:
		if c.session == nil || a.answered.Before(c.session.end()) {
			w.violated("S5", "%s with token %d of %s was answered code %d at %v, %v before the end of its lease",
				c.key, c.token, c.lock, a.out.Code, a.answered.Sub(w.began), c.until.Sub(a.answered))
		}
	case a.op == opRelease && c.gone.IsZero(),
		a.op == opHandOver && a.out.Code == locktable.Released && c.gone.IsZero(),
		a.op == opFinish && a.out.Code == locktable.Finished && c.gone.IsZero():
		c.gone = a.answered
	}
}

// granted notes an acknowledged grant or renewal.
func (c *claim) granted(w *world, a *attempt) {
	if c.token != 0 && a.out.Token != c.token && a.out.Token != 0 {
		w.violated("S10", "%s of %s was told token %d and then %d", c.key, c.lock, c.token, a.out.Token)
	}
	if c.token == 0 {
		if c.token = a.out.Token; a.op != opAcquire {
			return // a renewal of what was never acknowledged: the client knows now
		}
		c.ack = a.answered
	}
	if !c.released.IsZero() || c.ack.IsZero() {
		return
	}
	if until := a.sent.Add(validity(a.out.Deadline.Sub(a.out.Now))); until.After(c.until) {
		if c.until.Before(a.answered) && !c.until.IsZero() {
			// The belief had ended; a new one begins with this answer. Windows must be contiguous, so the old one is given up.
			c.ack = a.answered
		}
		c.sent, c.until = a.sent, until
	}
}

func (s *shared) end() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended.IsZero() && s.ended.Before(s.until) {
		return s.ended
	}
	return s.until
}

// all returns the claims on all locks of the set of c, or c alone.
func (c *claim) all() []*claim { return append([]*claim{c}, c.others...) }

// leaving notes that a release is about to be sent. The client's belief ends.
func (c *claim) leaving(at time.Time) {
	for _, m := range c.all() {
		m.leave(at)
	}
}

func (c *claim) leave(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.released.IsZero() {
		c.released = at
	}
	if c.until.After(at) {
		c.until = at
	}
}

// believed tells whether the client believes in its hold at that time.
func (c *claim) believed(at time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.token != 0 && at.Before(c.until)
}

// ends returns when the client's belief ended, with that of its session if it has one, or when an operator ended the hold.
func (c *claim) ends() time.Time {
	end := c.until
	if c.session != nil {
		if e := c.session.end(); e.Before(end) {
			end = e
		}
	}
	if !c.broken.IsZero() && c.broken.Before(end) {
		end = c.broken
	}
	return end
}

// touch notes that somebody does something for the key.
func (c *claim) touch(w *world) {
	for _, m := range c.all() {
		m.mu.Lock()
		m.used, m.usedAt = time.Now(), w.book.now()
		m.mu.Unlock()
	}
}
