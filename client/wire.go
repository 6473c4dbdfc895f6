package client

import (
	"encoding/json"
	"net/url"
	"time"
)

// seconds are how the interface tells durations.
type seconds float64

// maxSeconds is beyond everything that the server grants, and fits a Duration.
const maxSeconds = 100 * 365 * 24 * 3600

func (s seconds) duration() time.Duration {
	if !(s > 0) { // NaN is not
		return 0
	}
	return time.Duration(min(s, maxSeconds) * seconds(time.Second))
}

func inSeconds(d time.Duration) seconds { return seconds(d.Seconds()) }

// Holder is who holds a lock, as shown to everybody.
type Holder struct {
	Owner, Metadata string
	Mode            string // "exclusive" or "shared"
	Token           uint64
	Since           time.Time     // by the cluster's calendar, for people
	HeldFor         time.Duration // until the server told of it; 0 in a Problem
	TTL             time.Duration // the lifetime without renewal; 0 in a Problem
	ExpiresIn       time.Duration // what was left of it when the server told of it
	Set             int           // on how many locks the hold is; 0 for one
}

// UnmarshalJSON reads what the interface tells of a holder.
func (h *Holder) UnmarshalJSON(b []byte) error {
	var w struct {
		Owner, Metadata, Mode string
		Token                 uint64
		Since                 time.Time
		HeldFor               seconds `json:"held_for"`
		TTL                   seconds
		ExpiresIn             seconds `json:"expires_in"`
		Set                   int
	}
	if err := json.Unmarshal(b, &w); err != nil {
		return err
	}
	*h = Holder{
		Owner: w.Owner, Metadata: w.Metadata, Mode: w.Mode, Token: w.Token, Since: w.Since, HeldFor: w.HeldFor.duration(),
		TTL: w.TTL.duration(), ExpiresIn: w.ExpiresIn.duration(), Set: w.Set,
	}
	return nil
}

// WaitStep is one step of who waits for whom.
type WaitStep struct {
	Owner    string `json:"owner"`
	WaitsFor string `json:"waits_for"`
	HeldBy   string `json:"held_by"`
	Token    uint64 `json:"token"`
	// Queued: HeldBy does not hold the lock, but stands before Owner in its queue.
	Queued bool `json:"queued"`
}

// acquireBody asks for a lock or, with names, for a set.
type acquireBody struct {
	Names     []wantedName `json:"names,omitempty"`
	TTL       seconds      `json:"ttl,omitempty"`
	Wait      seconds      `json:"wait,omitempty"`
	Poll      seconds      `json:"poll,omitempty"`
	Key       string       `json:"key"`
	Mode      string       `json:"mode,omitempty"`
	Slots     int          `json:"slots,omitempty"`
	Session   string       `json:"session,omitempty"`
	Owner     string       `json:"owner,omitempty"`
	Metadata  string       `json:"metadata,omitempty"`
	LockDelay seconds      `json:"lock_delay,omitempty"`
}

type wantedName struct {
	Name  string `json:"name"`
	Mode  string `json:"mode,omitempty"`
	Slots int    `json:"slots,omitempty"`
}

// granted is the answer to an acquire, a renewal, and the opening of a session: whatever has a lifetime.
type granted struct {
	Key       string    `json:"key"`
	Token     uint64    `json:"token"`
	TTL       seconds   `json:"ttl"`
	ExpiresIn seconds   `json:"expires_in"`
	Waited    seconds   `json:"waited"`
	Asked     *askedFor `json:"asked"`

	// Of a place in the queue.
	Waiting      bool    `json:"waiting"`
	Position     int     `json:"position"`
	QueueLength  int     `json:"queue_length"`
	ExpectedWait seconds `json:"expected_wait"`
}

type askedFor struct {
	Owner  string    `json:"owner"`
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
	Within seconds   `json:"within"`
	DueIn  seconds   `json:"due_in"`
}

func (a *askedFor) ask() Ask {
	return Ask{Owner: a.Owner, Reason: a.Reason, Since: a.Since, Within: a.Within.duration(), DueIn: a.DueIn.duration()}
}

func lockPath(name string) string { return "/v1/locks/" + url.PathEscape(name) }
