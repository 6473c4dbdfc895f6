package client

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Problem is a refusal, as the server worded it. Branch on Code; what a code means never changes, and new ones may come. The
// table is in docs/api.md.
type Problem struct {
	Status int    // of HTTP
	Code   string // such as "held"; empty if the answer did not come from a DoubleDutch server
	Title  string
	Detail string // one sentence about this case, for people
	Field  string // the member, parameter or header that is wrong

	// Of code "held".
	Holder       *Holder       // who holds the lock, of several the first; nil if not known
	HolderCount  int           // how many hold it
	QueueLength  int           // how many wait
	Waited       time.Duration // how long this request stood in the queue
	BlockedFor   time.Duration // the lock is blocked for so long by a lock delay
	ExpectedWait time.Duration // a guess from earlier holds; 0 if there is none
	Name         string        // of a set, which lock stands in the way, if known

	Cycle []WaitStep // of code "deadlock": who waits for whom

	// Of code "broken": who ended the hold, and why.
	By, Reason string

	// RetryAfter is how long the server wants to be left alone; 0 if it did not say.
	RetryAfter time.Duration
}

// Error is the server's sentence.
func (p *Problem) Error() string {
	text := p.Detail
	if text == "" {
		text = p.Title
	}
	if text == "" {
		text = fmt.Sprintf("the server answered with status %d", p.Status)
	}
	if p.Code == "held" && p.Holder != nil && p.Holder.Owner != "" {
		text += " It is " + p.Holder.Owner + "."
	}
	if p.Code != "" {
		text += " (" + p.Code + ")"
	}
	return text
}

// kinds are what a code means for the one who asked. Codes that say that no answer could be given are missing: what they mean
// depends on what was tried before.
var kinds = map[string]error{
	"held":         ErrHeld,
	"deadlock":     ErrDeadlock,
	"not_held":     ErrLost,
	"broken":       ErrLost,
	"key_spent":    ErrLost,
	"no_session":   ErrLost,
	"not_claimant": ErrLost,
	"no_successor": ErrNoSuccessor,
	"no_task":      ErrNoTask,
}

// Is makes errors.Is tell what kind of refusal it is.
func (p *Problem) Is(target error) bool {
	kind, ok := kinds[p.Code]
	if !ok && p.final() {
		kind = ErrRefused
	}
	return kind != nil && target == kind
}

// What happened to a request that was answered with a problem.
const (
	notDone  = iota // it had no effect, and may be repeated
	notKnown        // it may have had one, and may be repeated
	decided         // the server has decided; a repetition is answered likewise
)

func (p *Problem) fate() int {
	switch p.Code {
	case "unavailable", "overloaded", "disk_full", "slot_passed", "body_timeout", "too_much_text",
		"cancelled": // the place is gone, or a later attempt has it
		return notDone
	case "unknown", "internal":
		return notKnown
	}
	switch {
	case strings.HasPrefix(p.Code, "too_many_"):
		return notDone
	case p.Status >= 500 && p.Status != http.StatusNotImplemented, p.Status == http.StatusTooManyRequests,
		p.Status == http.StatusRequestTimeout, p.Status == http.StatusTooEarly:
		return notKnown // a proxy, or a code that is newer than this client
	}
	return decided
}

func (p *Problem) final() bool { return p.fate() == decided }

// newProblem reads an answer that is none of success. If it does not come from a DoubleDutch server, only the status is known.
func newProblem(status int, header http.Header, body []byte) *Problem {
	var wire struct {
		Title, Detail, Code, Field, Name, By, Reason string
		Holder                                       *Holder
		Cycle                                        []WaitStep
		HolderCount                                  int     `json:"holder_count"`
		QueueLength                                  int     `json:"queue_length"`
		Waited                                       seconds `json:"waited"`
		BlockedFor                                   seconds `json:"blocked_for"`
		ExpectedWait                                 seconds `json:"expected_wait"`
	}
	p := &Problem{Status: status, RetryAfter: retryAfter(header)}
	if json.Unmarshal(body, &wire) != nil {
		return p
	}
	p.Code, p.Title, p.Detail, p.Field, p.Name = wire.Code, wire.Title, wire.Detail, wire.Field, wire.Name
	p.Holder, p.HolderCount, p.QueueLength, p.Cycle = wire.Holder, wire.HolderCount, wire.QueueLength, wire.Cycle
	p.Waited, p.BlockedFor, p.ExpectedWait = wire.Waited.duration(), wire.BlockedFor.duration(), wire.ExpectedWait.duration()
	p.By, p.Reason = wire.By, wire.Reason
	return p
}

// No server is left alone for longer than this, whatever it says.
const maxRetryAfter = 30 * time.Second

func retryAfter(h http.Header) time.Duration {
	n, err := strconv.ParseUint(h.Get("Retry-After"), 10, 16)
	if err != nil {
		return 0
	}
	return min(time.Duration(n)*time.Second, maxRetryAfter)
}
