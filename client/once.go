package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Done is what came of a task.
type Done struct {
	// Result is what the function returned that did the task, wherever it ran.
	Result string
	// Mine says that it was this call that did it.
	Mine bool
	// Attempt is the attempt that succeeded; Owner is who did it, Token the fencing token of the claim.
	Attempt int
	Owner   string
	Token   uint64
	// Ended is when it was done, by the cluster's calendar; zero if it is Mine.
	Ended time.Time
}

// Once has a task done once by all who call it with the same name, on however many machines: it calls do, or waits until somebody
// else has done it, and returns the result in either case. Who comes later gets the result, too, as long as the record is kept (see
// [Keep]). With [Every] or [Cron] it is once for each slot of the schedule.
//
// do runs in the goroutine of the caller. Its context ends with ctx, and when the claim is lost. What it returns is at most 16 KiB of
// text; of anything else the task is done without a result, and the error is [ErrRefused]. If it returns an error, or panics, the
// attempt has failed: whoever waits has a turn, after [RetryDelay] and as long as there are attempts left ([MaxAttempts]; but see
// [AtMostOnce]), and Once returns that error. It does not begin again by itself.
//
// Other errors: [ErrHeld] if somebody is at it, or the next attempt may not begin yet, and the time of [Wait] has passed; [ErrFailed] if
// no attempt is left; [ErrUnsettled] (see [AtMostOnce]); [ErrLost] if the claim was lost, so that somebody else may do the task as well; and
// as for [Client.Lock].
func (c *Client) Once(ctx context.Context, name string, do func(ctx context.Context, claim *Claim) (string, error), options ...TaskOption) (*Done, error) {
	o := taskOptions{wait: -1, keep: -1}
	for _, f := range options {
		f.applyTask(&o)
	}
	done, err := c.once(ctx, name, do, &o)
	return done, wrap("task "+quoteNames([]string{name}), err)
}

func (c *Client) once(ctx context.Context, name string, do func(context.Context, *Claim) (string, error), o *taskOptions) (*Done, error) {
	if err := errors.Join(checkName(name), o.check()); err != nil {
		return nil, err
	}
	claim, done, err := c.claim(ctx, name, o)
	if claim == nil {
		return done, err
	}
	return claim.run(ctx, do)
}

// taskAnswer is the answer to a claim.
type taskAnswer struct {
	granted
	TaskInfo
}

func (a *taskAnswer) UnmarshalJSON(b []byte) error {
	if err := json.Unmarshal(b, &a.granted); err != nil {
		return err
	}
	return json.Unmarshal(b, &a.TaskInfo)
}

// claim asks for the task until it is claimed, or over. Either the claim, or what came of the task, or an error is not nil.
func (c *Client) claim(ctx context.Context, name string, o *taskOptions) (*Claim, *Done, error) {
	user := ctx
	ctx, end, err := c.begin(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer end()
	body := o.body(c.config.owner)
	waits := waiting{clock: c.clock, ttl: o.ttl, wait: o.wait, began: c.clock.now()}
	if waits.ttl == 0 {
		waits.ttl = DefaultTTL
	}
	abandon := func() {
		if o.key == "" {
			c.abandonTask(name, body.Key)
		}
	}
	for left := false; ; left = true {
		a, sent, res := c.askForTask(ctx, name, &body, &waits)
		switch {
		case res.answer == nil:
			if res.unsure || left && res.err != nil {
				abandon()
			}
			return nil, nil, res.fault()
		case a.Waiting:
			waits.n++
		case a.Status != "claimed":
			if res.unsure {
				abandon()
			}
			done, err := a.outcome()
			return nil, done, err
		default:
			claim, err := c.claimed(ctx, user, name, body, a, sent)
			if err != nil {
				abandon()
			}
			return claim, nil, err
		}
	}
}

// abandonTask gives up in the background what a claim may have left behind. Nobody has begun to work on it: the attempt is reported
// to have failed, so that also an at-most-once task can be done by others; if it is no claim, the place is given up.
func (c *Client) abandonTask(name, key string) {
	fail := &request{
		method: http.MethodPost, path: taskPath(name) + "/fail",
		body: toJSON(map[string]string{"key": key, "error": "it was given up before it had begun"}),
	}
	place := &request{method: http.MethodDelete, path: "/v1/holds", header: map[string]string{"Lock-Key": key}}
	c.later(func(ctx context.Context) {
		for range 2 {
			if res := c.free(ctx, fail); res.err != nil || res.answer != nil {
				return
			}
			if res := c.free(ctx, place); res.err != nil || res.answer != nil || !sleep(ctx, abandonPause) {
				return
			}
		}
	})
}

func (c *Client) askForTask(ctx context.Context, name string, body *claimBody, waits *waiting) (a taskAnswer, sent instant, res result) {
	left, slice := waits.next()
	b := *body
	b.Wait, b.Poll = inSeconds(left), inSeconds(slice)
	r := &request{
		method: http.MethodPost, path: taskPath(name), body: toJSON(b), answerIn: answerIn(left, slice), patience: c.config.patience,
	}
	res = c.do(ctx, r, func(got *answer) error {
		a, sent = taskAnswer{}, got.sent
		if err := json.Unmarshal(got.body, &a); err != nil {
			return err
		}
		if a.Status == "" || a.Status == "claimed" && a.Key != b.Key {
			return errors.New("the answer is not for this request")
		}
		return nil
	})
	return a, sent, res
}

// outcome is what Once returns of a task that was not claimed.
func (a *taskAnswer) outcome() (*Done, error) {
	switch a.Status {
	case TaskDone:
		return &Done{Result: a.Result, Attempt: a.TaskInfo.Attempt, Owner: a.Owner, Token: a.TaskInfo.Token, Ended: a.Ended}, nil
	case TaskFailed:
		return nil, both(ErrFailed, errors.New(a.Error))
	case TaskUnknown:
		return nil, both(ErrUnsettled, fmt.Errorf("its claimant %q was lost", a.Owner))
	case TaskOpen:
		return nil, both(ErrHeld, fmt.Errorf("the next attempt can begin in %v", a.ClaimableIn))
	}
	return nil, both(ErrHeld, fmt.Errorf("the task is %s, attempt %d by %q", a.Status, a.TaskInfo.Attempt, a.Owner))
}

func (c *Client) claimed(ctx, user context.Context, name string, body claimBody, a taskAnswer, sent instant) (*Claim, error) {
	claim := &Claim{
		client: c, name: name, body: body, token: a.granted.Token, Attempt: a.TaskInfo.Attempt, LastError: a.Error,
		SlotStart: a.Slot.Start, SlotEnd: a.Slot.End,
	}
	claim.keeper = c.newKeeper(user, claim.String())
	claim.keeper.renew = claim.renew
	claim.keeper.acknowledge(sent, &a.granted)
	if err := claim.keeper.begin(ctx); err != nil {
		return nil, err
	}
	return claim, nil
}

// run does the task, and reports what came of it.
func (c *Claim) run(ctx context.Context, do func(context.Context, *Claim) (string, error)) (*Done, error) {
	defer c.end()
	work, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(c.keeper.ctx, func() { cancel(context.Cause(c.keeper.ctx)) })
	defer stop()
	returned := false
	defer func() {
		if !returned { // it panics, or ends the goroutine; that goes on afterwards
			_ = c.failed(ctx, errDidNotReturn)
		}
	}()
	text, err := do(work, c)
	returned = true
	if err != nil {
		if failed := c.failed(ctx, err); failed != nil {
			return nil, errors.Join(err, wrap("report the failure", failed))
		}
		return nil, err
	}
	err = c.complete(ctx, text)
	if errors.Is(err, ErrRefused) && text != "" {
		// It is done all the same, and must not be done again for the sake of a text.
		err = fmt.Errorf("it is done, but its result cannot be kept: %w", errors.Join(err, c.complete(ctx, "")))
	}
	if err != nil {
		return nil, err
	}
	return &Done{Result: text, Mine: true, Attempt: c.Attempt, Owner: c.body.Owner, Token: c.token}, nil
}
