package main

import (
	"context"
	"errors"
	"fmt"

	dd "github.com/doubledutch-lock/doubledutch/client"
	"github.com/doubledutch-lock/doubledutch/cmd/doubledutch/exitcode"
	"github.com/doubledutch-lock/doubledutch/internal/supervise"
)

// once does the command as a task: it claims it, runs the command unless somebody else has done it, and reports how that has ended.
func (r *runJob) once(ctx context.Context, interrupted func() bool, signals *supervise.Signals) error {
	begun := false
	var end error
	done, err := r.client.Once(ctx, r.cmd.task(), func(work context.Context, claim *dd.Claim) (string, error) {
		begun = true
		if interrupted() {
			end = errInterrupted
			return "", end
		}
		r.claim = &runClaim{claim, work.Done()}
		r.verbose(fmt.Sprintf("claimed the task %q: token %d, attempt %d", claim.Name(), claim.Token(), claim.Attempt))
		end = r.work(signals)
		return "", r.attempt(end)
	}, r.taskOptions()...)
	switch {
	case !begun && interrupted():
		return errInterrupted
	case !begun && err != nil:
		return r.refused(err)
	case !begun:
		text := "the task is done by " + done.Owner
		if done.Result != "" {
			text += ": " + done.Result
		}
		r.say(text)
		return nil
	case end != nil:
		return end
	case errors.Is(err, dd.ErrLost):
		return exitcode.With(exitcode.RunLost, fmt.Errorf("the command has succeeded, but the task was lost before: %s", plain(err)))
	case err != nil:
		return exitcode.With(exitcode.RunUnavailable,
			fmt.Errorf("the command has succeeded, but that could not be recorded, and it may be done again: %s", plain(err)))
	}
	return nil
}

// attempt is what is reported of a command that ended in this way.
func (r *runJob) attempt(end error) error {
	switch {
	case end == nil:
		return nil
	case errors.Is(end, errSaid):
		return fmt.Errorf("exit code %d", exitcode.Of(end))
	}
	return end
}

func (r *runJob) taskOptions() []dd.TaskOption {
	c := r.cmd
	options := []dd.TaskOption{dd.TTL(c.TTL.duration()), dd.Metadata(r.reason())}
	if c.Keep >= 0 {
		options = append(options, dd.Keep(c.Keep.duration()))
	}
	if c.MaxAttempts > 0 {
		options = append(options, dd.MaxAttempts(int(c.MaxAttempts)))
	}
	if c.Every > 0 {
		options = append(options, dd.Every(c.Every.duration()))
	}
	if c.Cron != "" {
		options = append(options, dd.Cron(string(c.Cron), string(c.Zone)))
	}
	if left := r.left(); left >= 0 {
		options = append(options, dd.Wait(left))
	}
	return options
}

// runClaim is a claim as what the command must not outlive.
type runClaim struct {
	*dd.Claim
	lost <-chan struct{}
}

// Lost is part of runLeaser. The claim ends only in this way while its command runs.
func (c *runClaim) Lost() <-chan struct{} { return c.lost }
