package client

import (
	"net/url"
	"time"
)

// TaskOption is a setting of [Client.Once].
type TaskOption interface{ applyTask(*taskOptions) }

type taskOptions struct {
	sessionOptions
	wait        time.Duration // negative: as long as the context lasts
	keep        time.Duration // negative: for good
	maxAttempts int
	retryDelay  time.Duration
	atMostOnce  bool
	every       time.Duration
	cron, zone  string
	atLeast     time.Duration
}

type taskOption func(*taskOptions)

func (f taskOption) applyTask(o *taskOptions) { f(o) }

// Keep is how long the record of a task stays when it is over: as long as it is there, the task is not done again. 0 forgets it at
// once. Negative, or without it, it stays for good.
func Keep(d time.Duration) TaskOption { return taskOption(func(o *taskOptions) { o.keep = d }) }

// MaxAttempts bounds how often a task is begun, over all machines. Attempts whose claimant was lost count.
func MaxAttempts(n int) TaskOption { return taskOption(func(o *taskOptions) { o.maxAttempts = n }) }

// RetryDelay is how long after a failed or lost attempt the next can begin.
func RetryDelay(d time.Duration) TaskOption {
	return taskOption(func(o *taskOptions) { o.retryDelay = d })
}

// AtMostOnce is for what must rather not be done than done twice: when the claimant is lost, or its function
// returns an error or panics, nobody is given the task, and Once returns [ErrUnsettled] until an operator has settled it. An error that is
// [ErrNotDone] says that nothing was done: then others can do the task.
func AtMostOnce() TaskOption { return taskOption(func(o *taskOptions) { o.atMostOnce = true }) }

// Every makes it a task for each slot of so many seconds, counted from the beginning of 1970, UTC. Once then does it, or finds it
// done, for the present slot.
func Every(d time.Duration) TaskOption { return taskOption(func(o *taskOptions) { o.every = d }) }

// Cron makes it a task for each slot that begins at a time of a cron expression with five fields, in a time zone such as
// "Europe/Zurich"; "" is UTC.
func Cron(expression, zone string) TaskOption {
	return taskOption(func(o *taskOptions) { o.cron, o.zone = expression, zone })
}

// AtLeast keeps so much time between the end of a run and the beginning of the next, whatever the schedule says.
func AtLeast(d time.Duration) TaskOption { return taskOption(func(o *taskOptions) { o.atLeast = d }) }

type claimBody struct {
	TTL         seconds  `json:"ttl,omitempty"`
	Wait        seconds  `json:"wait,omitempty"`
	Poll        seconds  `json:"poll,omitempty"`
	Keep        *seconds `json:"keep,omitempty"`
	MaxAttempts int      `json:"max_attempts,omitempty"`
	RetryDelay  seconds  `json:"retry_delay,omitempty"`
	AtMostOnce  bool     `json:"at_most_once,omitempty"`
	Every       seconds  `json:"every,omitempty"`
	Cron        string   `json:"cron,omitempty"`
	Zone        string   `json:"zone,omitempty"`
	AtLeast     seconds  `json:"at_least,omitempty"`
	Key         string   `json:"key"`
	Owner       string   `json:"owner,omitempty"`
	Metadata    string   `json:"metadata,omitempty"`
}

func (o *taskOptions) body(owner string) claimBody {
	b := claimBody{
		TTL: inSeconds(o.ttl), MaxAttempts: o.maxAttempts, RetryDelay: inSeconds(o.retryDelay), AtMostOnce: o.atMostOnce,
		Every: inSeconds(o.every), Cron: o.cron, Zone: o.zone, AtLeast: inSeconds(o.atLeast), Key: o.key, Owner: o.owner,
		Metadata: o.metadata,
	}
	if o.keep >= 0 {
		keep := inSeconds(o.keep)
		b.Keep = &keep
	}
	if b.Key == "" {
		b.Key = NewKey()
	}
	if b.Owner == "" {
		b.Owner = owner
	}
	return b
}

func taskPath(name string) string { return "/v1/tasks/" + url.PathEscape(name) }
