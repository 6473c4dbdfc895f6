package client

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"
)

// result is what a request came to in the end.
type result struct {
	answer  *answer  // success, or
	problem *Problem // the server's decision, or
	err     error    // it was given up; problem is the last refusal then, if there was one

	ended bool // err is the end of the context

	// unsure: some attempt, other than the one that was answered, may have had its effect, or may have it yet.
	unsure bool
}

// call is a request under way. Its attempts go to one endpoint after the other. One that does not answer in time is left open
// while another endpoint is asked, and whichever answers first counts: it is the same request.
type call struct {
	client  *Client
	request *request
	ctx     context.Context //nolint:containedctx // of all its attempts
	arrive  chan arrival
	open    []*attempt // under way, oldest first
	cut     []*attempt // cancelled
	unsure  bool       // an attempt that has ended may have had its effect
	last    error      // why it did not succeed yet
	refusal *Problem   // the last one
}

// do asks the cluster for r until a server has decided, the patience is used up, or ctx ends. It returns at once when ctx ends.
// An answer for which accept returns an error counts as none; accept may be nil.
func (c *Client) do(ctx context.Context, r *request, accept func(*answer) error) result {
	if ctx.Err() != nil {
		return result{err: endOf(ctx), ended: true}
	}
	whole, cancel := context.WithCancel(ctx)
	defer cancel() // the end of attempts that are still open
	k := &call{client: c, request: r, ctx: whole, arrive: make(chan arrival)}
	to, pause := k.next()
	launch := time.NewTimer(pause)
	defer launch.Stop()
	enough := patienceTimer(r)
	defer enough.Stop()
	for {
		select {
		case <-ctx.Done():
			res := k.giveUp()
			res.err, res.ended = both(endOf(ctx), k.last), true
			return res
		case <-enough.C:
			return k.giveUp()
		case <-launch.C:
			if to == nil { // the newest attempt took too long
				k.stall()
				to, pause = k.next()
				launch.Reset(pause)
				continue
			}
			k.launch(to)
			to = nil
			launch.Reset(r.answerIn + k.tryTimeout())
		case got := <-k.arrive:
			k.drop(got.of)
			if got.answer != nil && accept != nil {
				if err := accept(got.answer); err != nil {
					got.answer, got.err = nil, &noAnswerError{base: got.of.to.base, err: err}
				}
			}
			if done, res := k.judge(got); done {
				return res
			}
			// While a newer attempt is under way, what became of an older one is no reason to hurry.
			if to == nil && !k.newestOpen() {
				to, pause = k.next()
				launch.Reset(pause)
			}
		}
	}
}

// patienceTimer fires when it has been tried for long enough.
func patienceTimer(r *request) *time.Timer {
	if r.patience < 0 {
		t := time.NewTimer(time.Hour)
		t.Stop()
		return t
	}
	return time.NewTimer(r.patience + r.answerIn)
}

// tryTimeout is how long an attempt may take beyond answerIn.
func (k *call) tryTimeout() time.Duration {
	d := k.client.config.try
	if k.request.until != 0 {
		d = min(d, max(k.left()/4, minTry))
	}
	return d
}

// maxCut is how many cancelled attempts are watched. Of older ones it is not claimed that nothing came of them.
const maxCut = 16

const (
	minTry   = 20 * time.Millisecond
	minPause = 10 * time.Millisecond
)

// left is the time until the answer is of no use.
func (k *call) left() time.Duration { return k.request.until.sub(k.client.clock.now()) }

// next chooses the endpoint to ask, and how long to wait before.
func (k *call) next() (*endpoint, time.Duration) {
	to, pause := k.client.pool.pick(k.busy)
	if k.request.until != 0 {
		pause = min(pause, max(k.left()/8, minPause))
	}
	return to, pause
}

func (k *call) busy(e *endpoint) bool {
	return slices.ContainsFunc(k.open, func(a *attempt) bool { return a.to == e })
}

// launch sends the request once more.
func (k *call) launch(to *endpoint) {
	if most := max(2, k.client.pool.size()); len(k.open) >= most {
		oldest := k.open[0]
		oldest.cancel()
		k.drop(oldest)
		k.cut = append(k.cut, oldest) // it may be about to leave
		if len(k.cut) > maxCut {
			k.cut, k.unsure = k.cut[1:], true
		}
	}
	ctx, cancel := context.WithCancel(k.ctx)
	a := &attempt{to: to, sent: k.client.clock.now(), cancel: cancel, ended: make(chan struct{})}
	a.out.Store(!k.client.traced)
	k.open = append(k.open, a)
	k.client.running.goes(func() {
		defer close(a.ended)
		defer cancel()
		got := k.client.try(ctx, k.request, a)
		if got.err != nil && ctx.Err() != nil {
			return // it was cancelled, and nobody asks
		}
		select {
		case k.arrive <- got:
		case <-ctx.Done():
		}
	})
}

// stall gives up on the newest attempt, but leaves it open.
func (k *call) stall() {
	newest := k.open[len(k.open)-1]
	newest.stalled = true
	k.client.pool.stalled(newest.to)
	k.client.log.Debug("an endpoint does not answer; another one is asked", "endpoint", newest.to.base)
	if k.last == nil {
		k.last = &noAnswerError{base: newest.to.base, err: errNoAnswer}
	}
}

var errNoAnswer = errors.New("no answer in time")

func (k *call) newestOpen() bool { return len(k.open) > 0 && !k.open[len(k.open)-1].stalled }

func (k *call) drop(a *attempt) {
	k.open = slices.DeleteFunc(k.open, func(b *attempt) bool { return a == b })
}

// judge tells whether got ends the call, and notes what it says about its endpoint.
func (k *call) judge(got arrival) (bool, result) {
	a, pool := got.of, k.client.pool
	switch {
	case got.answer != nil:
		if !a.stalled {
			pool.ok(a.to)
		}
		return true, result{answer: got.answer, unsure: k.isUnsure()}
	case got.err != nil:
		k.last = got.err
		k.unsure = k.unsure || a.mayHaveArrived(got.err)
		pool.failed(a.to, 0)
		k.client.log.Debug("an endpoint failed", "error", got.err)
		return false, result{}
	}
	k.last, k.refusal = got.problem, got.problem
	switch got.problem.fate() {
	case decided:
		pool.ok(a.to)
		return true, result{problem: got.problem, unsure: k.isUnsure()}
	case notKnown:
		k.unsure = true
	}
	pool.failed(a.to, got.problem.RetryAfter)
	k.client.log.Debug("an endpoint cannot do it now", "endpoint", a.to.base, "error", got.problem)
	return false, result{}
}

// isUnsure tells whether any attempt, other than the one that was answered, may have its effect. The others end with it.
func (k *call) isUnsure() bool {
	for _, a := range slices.Concat(k.open, k.cut) {
		a.cancel()
		if !a.out.Load() {
			<-a.ended // at once; until then it can still leave
		}
	}
	out := func(a *attempt) bool { return a.mayHaveArrived(nil) }
	return k.unsure || slices.ContainsFunc(k.open, out) || slices.ContainsFunc(k.cut, out)
}

// giveUp ends the call without a decision.
func (k *call) giveUp() result {
	return result{problem: k.refusal, err: both(errNoAnswer, k.last), unsure: k.isUnsure()}
}

// endOf says why ctx ended: with the client, or as its owner wanted.
func endOf(ctx context.Context) error {
	cause := context.Cause(ctx)
	if errors.Is(cause, ErrClosed) || errors.Is(cause, errNoAnswer) {
		return cause
	}
	if errors.Is(cause, ctx.Err()) {
		return cause
	}
	return both(ctx.Err(), cause)
}

// usedUp says that the number of the request was below those that its session remembers, or was used for another request before: with
// another number it may be asked again.
func (r *result) usedUp() bool {
	return r.answer == nil && r.err == nil && (r.problem.Code == "request_too_old" || r.problem.Code == "request_mismatch")
}

// fault is the error of a result that is no success.
func (r *result) fault() error {
	switch {
	case r.answer != nil:
		return nil
	case r.err == nil:
		return r.problem
	case r.unsure:
		return both(ErrUnknown, r.err)
	case r.ended:
		return r.err
	}
	return both(ErrUnavailable, r.err)
}

// ask is do for requests that change nothing, whose answer is decoded into into.
func (c *Client) ask(ctx context.Context, r *request, into any) error {
	ctx, end, err := c.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	r.patience = c.config.patience
	res := c.do(ctx, r, func(a *answer) error { return json.Unmarshal(a.body, into) })
	res.unsure = false // there is nothing to be unsure of
	return res.fault()
}
