package client

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Claim is the permission to work on a task, while it lasts. It renews itself. The function that is given to [Client.Once] gets it.
type Claim struct {
	client *Client
	name   string
	body   claimBody
	token  uint64
	keeper *keeper

	// Attempt counts the attempts of this run, from 1 on.
	Attempt int
	// LastError is what went wrong in the attempt before, if there was one.
	LastError string
	// SlotStart and SlotEnd are those of the slot of the schedule, by the cluster's calendar; zero without a schedule.
	SlotStart, SlotEnd time.Time
}

// Name is the name of the task.
func (c *Claim) Name() string { return c.name }

// Token is the fencing token of this attempt, greater than that of all before.
func (c *Claim) Token() uint64 { return c.token }

// Key is the secret that the claim is held by: whoever has it can renew, complete and fail it.
func (c *Claim) Key() string { return c.body.Key }

// Remaining is for how long the claim can be relied on if no further renewal succeeds; 0 once it is lost.
func (c *Claim) Remaining() time.Duration { return c.keeper.remaining() }

// Err is nil as long as the claim can be relied on, by the clock at this moment.
func (c *Claim) Err() error { return wrap(c.String(), c.keeper.believed()) }

// String names the task, without the key.
func (c *Claim) String() string { return "task " + quoteNames([]string{c.name}) }

// GoString is String: the key is not to be printed by accident.
func (c *Claim) GoString() string { return c.String() }

type renewTaskBody struct {
	Key      string `json:"key"`
	Progress string `json:"progress,omitempty"`
}

func (c *Claim) renew(ctx context.Context, until instant, note func(instant, *granted)) result {
	return c.client.renewal(ctx, taskPath(c.name)+"/renew", renewTaskBody{Key: c.body.Key}, until, note)
}

// Progress tells others how far the task is: at most 16 KiB of text. It also renews the claim.
func (c *Claim) Progress(ctx context.Context, text string) error {
	return wrap("tell progress", c.progress(ctx, text))
}

func (c *Claim) progress(ctx context.Context, text string) error {
	ctx, end, err := c.client.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	until := c.client.clock.now().add(c.keeper.remaining())
	res := c.client.renewal(ctx, taskPath(c.name)+"/renew", renewTaskBody{Key: c.body.Key, Progress: text}, until, c.keeper.extend)
	return res.fault()
}

// The server takes texts up to this many bytes.
const maxTaskText = 16 << 10

// complete reports that the task is done.
func (c *Claim) complete(ctx context.Context, text string) error {
	res := c.report(ctx, "/complete", map[string]string{"key": c.body.Key, "result": text})
	if res.answer == nil && res.err == nil && res.unsure && c.body.Keep != nil && *c.body.Keep == 0 && res.problem.Is(ErrLost) {
		// With nothing kept, a completion whose answer was lost cannot be told from a claim that was.
		return both(ErrUnknown, res.problem)
	}
	return res.fault()
}

var errDidNotReturn = errors.New("the function did not return")

// failed reports that the attempt ended with why. Who may try at most once, and does not say that nothing was done, gives the claim
// back as lost, so that nobody tries again before a person has looked.
func (c *Claim) failed(ctx context.Context, why error) error {
	if !c.body.AtMostOnce || errors.Is(why, ErrNotDone) {
		return c.fail(ctx, why.Error())
	}
	res := c.send(ctx, &request{method: http.MethodDelete, path: "/v1/holds", header: map[string]string{"Lock-Key": c.body.Key}})
	return res.fault()
}

// fail reports that the attempt failed.
func (c *Claim) fail(ctx context.Context, why string) error {
	res := c.report(ctx, "/fail", map[string]string{"key": c.body.Key, "error": clip(why)})
	return res.fault()
}

// clip makes of a text one that the server takes.
func clip(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\t' && r != '\n' && r != '\r' {
			return ' '
		}
		return r
	}, text) // what is no UTF-8 becomes U+FFFD
	if len(text) <= maxTaskText {
		return text
	}
	end := maxTaskText
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end]
}

// report says how the attempt ended.
func (c *Claim) report(ctx context.Context, verb string, body map[string]string) result {
	return c.send(ctx, &request{method: http.MethodPost, path: taskPath(c.name) + verb, body: toJSON(body)})
}

// send ends the claim on the server, while it is still renewed. The end of ctx does not keep it from doing so.
func (c *Claim) send(ctx context.Context, r *request) result {
	ctx, end, err := c.client.begin(context.WithoutCancel(ctx))
	if err != nil {
		return result{err: err, ended: true, unsure: true}
	}
	defer end()
	if r.patience = c.client.config.patience; r.patience < 0 {
		r.patience = max(c.keeper.ttl, DefaultPatience)
	}
	return c.client.do(ctx, r, nil)
}

// end stops the renewals.
func (c *Claim) end() {
	c.keeper.finish(ErrReleased)
	<-c.keeper.done
}
