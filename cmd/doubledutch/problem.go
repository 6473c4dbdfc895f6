package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/doubledutch-lock/doubledutch/cmd/doubledutch/exitcode"
)

// problem is an answer that is not a success, as the server's problem document tells it.
type problem struct {
	Status int    `json:"status"`
	Code   string `json:"code"`
	Title  string `json:"title"`
	Detail string `json:"detail"`

	// With code held: which lock of a set it is, the first holder, if any, how many hold the lock and wait for it, and for how many seconds it stays
	// blocked after an expiry.
	Name        string        `json:"name"`
	Holder      *holderAnswer `json:"holder"`
	HolderCount int           `json:"holder_count"`
	QueueLength int           `json:"queue_length"`
	BlockedFor  float64       `json:"blocked_for"`
	Expected    float64       `json:"expected_wait"` // seconds, if it is known

	// With code deadlock: who waits for whom.
	Cycle []waitAnswer `json:"cycle"`

	raw []byte // the whole document, if it is one
}

func (p *problem) Error() string {
	switch {
	case p.Holder != nil || p.BlockedFor > 0:
		return p.held()
	case len(p.Cycle) > 0:
		return p.deadlockText()
	case p.Detail != "":
		return p.Detail
	case p.Title != "":
		return p.Title
	default:
		return fmt.Sprintf("the server answered %d %s", p.Status, http.StatusText(p.Status))
	}
}

// held says who stands in the way.
func (p *problem) held() string {
	who := fmt.Sprintf("the lock is blocked for another %s, since its last hold expired or was broken", ago(p.BlockedFor))
	if p.Holder != nil {
		who = "the lock is held"
		if p.Name != "" {
			who = fmt.Sprintf("%q is held", p.Name)
		}
		if p.Holder.Owner != "" {
			who += " by " + p.Holder.Owner
		}
		if p.HolderCount > 1 {
			who += fmt.Sprintf(" and %d more", p.HolderCount-1)
		}
		if p.Holder.Metadata != "" {
			who += fmt.Sprintf(" (%s)", p.Holder.Metadata)
		}
		who += "; the hold expires in " + ago(p.Holder.ExpiresIn) + " unless renewed"
	}
	if p.QueueLength > 0 {
		who += fmt.Sprintf("; waiting: %d", p.QueueLength)
	}
	if p.Expected > 0 {
		who += "; who comes now may have to wait about " + ago(p.Expected)
	}
	return who
}

// newProblem reads the answer's document, and returns it as an error that carries the exit code for it.
func newProblem(resp *http.Response, body []byte) error {
	p := &problem{}
	kind := resp.Header.Get("Content-Type")
	switch {
	case strings.Contains(kind, "json") && json.Unmarshal(body, p) == nil:
		p.raw = body
	case strings.HasPrefix(kind, "text/plain"):
		p.Detail, _, _ = strings.Cut(strings.TrimSpace(string(body)), "\n")
	}
	p.Status = resp.StatusCode
	return exitcode.With(p.exitCode(), p)
}

// exitCode is the code with which a verb ends that got this answer.
func (p *problem) exitCode() int {
	switch p.Code {
	case "held", "cancelled", "deadlock":
		return exitcode.Held
	case "not_held", "not_claimant", "broken":
		return exitcode.NotHeld
	}
	switch p.Status {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout, http.StatusInsufficientStorage:
		return exitcode.Unavailable
	}
	return exitcode.Failure
}
