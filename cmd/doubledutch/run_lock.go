package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	dd "github.com/doubledutch-lock/doubledutch/client"
	"github.com/doubledutch-lock/doubledutch/cmd/doubledutch/exitcode"
	"github.com/doubledutch-lock/doubledutch/internal/supervise"
)

// runJob is one run of a command.
type runJob struct {
	cmd     *runCmd
	console *console
	client  *dd.Client
	begun   time.Time

	lock  *dd.Lease // nil: there is none
	claim *runClaim // nil: there is none
}

var errInterrupted = exitcode.With(exitcode.Interrupted, errors.New("interrupted"))

// say prints a line for a person.
func (r *runJob) say(text string) {
	_, _ = fmt.Fprintf(r.console.err, "doubledutch: %s\n", printable(text))
}

// verbose prints a line for a person who wants to know all.
func (r *runJob) verbose(text string) {
	if r.cmd.Verbose {
		r.say(text)
	}
}

// servers are the addresses in --server.
func (r *runCmd) servers() ([]string, error) {
	servers := strings.Split(r.Server, ",")
	for i := range servers {
		base, err := serverURL(servers[i])
		if err != nil {
			return nil, err
		}
		servers[i] = base
	}
	return servers, nil
}

// owner is who holds the lock.
func (r *runCmd) owner() string {
	if r.Owner != "" {
		return r.Owner
	}
	return defaultOwner()
}

// reason is why. Arguments of the command are left out: they are nobody's business, and may be secrets.
func (r *runJob) reason() string {
	if r.cmd.Reason != "" {
		return r.cmd.Reason
	}
	name := strings.ToValidUTF8(filepath.Base(r.console.command[0]), "\uFFFD")
	return printable(name)
}

// open makes the client. Nothing is sent yet.
func (r *runJob) open() error {
	servers, err := r.cmd.servers()
	if err != nil {
		return err
	}
	key, err := r.cmd.load()
	if err != nil {
		return err
	}
	trust, err := r.cmd.trust()
	if err != nil {
		return err
	}
	options := []dd.Option{dd.WithOwner(r.cmd.owner()), dd.WithAPIKey(key.reveal()), dd.WithPatience(r.cmd.Timeout.duration())}
	if trust != nil {
		options = append(options, dd.WithTLSConfig(trust))
	}
	r.client, err = dd.New(servers, options...)
	return err
}

// close ends what is left in the background.
func (r *runJob) close() { _ = r.client.Close() }

// whole does all of it: it acquires what there is to acquire, runs the command, and gives everything back.
func (r *runJob) whole(signals *supervise.Signals) (err error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	interrupted := signals.Until(cancel)
	if r.cmd.Name != "" {
		r.lock, err = r.acquireLock(ctx)
		switch {
		case err != nil && interrupted():
			return errInterrupted
		case err != nil:
			return r.refused(err)
		}
		defer r.release()
		r.verbose(fmt.Sprintf("acquired %q after %s: token %d", r.cmd.Name, ago(time.Since(r.begun).Seconds()), r.lock.Token()))
	}
	switch {
	case r.cmd.task() != "":
		return r.once(ctx, interrupted, signals)
	case interrupted():
		return errInterrupted
	}
	return r.work(signals)
}

// left is what is left of the wait. Negative: as long as it takes.
func (r *runJob) left() time.Duration {
	limit := r.cmd.limit()
	if limit <= 0 {
		return limit
	}
	return max(limit-time.Since(r.begun), 0)
}

func (r *runJob) acquireLock(ctx context.Context) (*dd.Lease, error) {
	c := r.cmd
	options := []dd.LockOption{dd.TTL(c.TTL.duration()), dd.Metadata(r.reason())}
	if c.Shared {
		options = append(options, dd.Shared())
	}
	if c.Slots > 0 {
		options = append(options, dd.Slots(int(c.Slots)))
	}
	if c.LockDelay > 0 {
		options = append(options, dd.LockDelay(c.LockDelay.duration()))
	}
	if c.Verbose {
		options = append(options, dd.OnPlace(func(p dd.Place) {
			r.say(fmt.Sprintf("waiting for %q: place %d of %d", c.Name, p.Position, p.QueueLength))
		}))
	}
	if left := r.left(); left >= 0 {
		options = append(options, dd.Wait(left))
	}
	to, err := newGoal(c.Name, c.OneName)
	switch {
	case err != nil:
		return nil, err
	case to.names != nil:
		return r.client.LockAll(ctx, to.names, options...)
	}
	return r.client.Lock(ctx, c.Name, options...)
}

// refused is how the program ends when there is nothing to hold.
func (r *runJob) refused(err error) error {
	var p *dd.Problem
	if errors.As(err, &p) && (p.Holder != nil || p.BlockedFor > 0) {
		err = fmt.Errorf("%w%w", asProblem(p), hidden{err})
	}
	switch {
	case errors.Is(err, dd.ErrHeld):
		if r.cmd.IfBusy == "skip" {
			r.say(plain(err) + "; skipped")
			return nil
		}
		return exitcode.With(int(r.cmd.ConflictExitCode), errors.New(plain(err)))
	case errors.Is(err, dd.ErrFailed), errors.Is(err, dd.ErrUnsettled):
		return exitcode.With(exitcode.RunTaskFailed, errors.New(plain(err)))
	case errors.Is(err, dd.ErrUnavailable), errors.Is(err, dd.ErrUnknown):
		return exitcode.With(exitcode.RunUnavailable, errors.New(plain(err)))
	case exitcode.Of(err) == exitcode.Usage:
		return err
	}
	return exitcode.With(exitcode.RunFailed, errors.New(plain(err)))
}

// plain is what an error says, without the name that this program puts before everything.
// Of a task, what it is about is said by the rest.
func plain(err error) string {
	text := strings.TrimPrefix(err.Error(), "doubledutch: ")
	return strings.Replace(text, dd.ErrHeld.Error()+": the task", "the task", 1)
}

// hidden is an error that is there for errors.Is alone.
type hidden struct{ error }

func (hidden) Error() string   { return "" }
func (h hidden) Unwrap() error { return h.error }

// asProblem words a refusal of the client as all verbs do.
func asProblem(p *dd.Problem) *problem {
	as := &problem{
		Status: p.Status, Code: p.Code, Title: p.Title, Detail: p.Detail, Name: p.Name, HolderCount: p.HolderCount,
		QueueLength: p.QueueLength, BlockedFor: p.BlockedFor.Seconds(), Expected: p.ExpectedWait.Seconds(),
	}
	if h := p.Holder; h != nil {
		as.Holder = &holderAnswer{Owner: h.Owner, Metadata: h.Metadata, ExpiresIn: h.ExpiresIn.Seconds()}
	}
	return as
}

// releaseWithin is how long the release of a lock that is lost anyway may take.
const releaseWithin = time.Second

// release gives the lock back. If it was lost, there is no word about it: that was told before.
func (r *runJob) release() {
	within := r.cmd.Timeout.duration()
	if r.lock.Err() != nil {
		within = releaseWithin
	}
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	err := r.lock.Unlock(ctx)
	switch {
	case err == nil:
		r.verbose(fmt.Sprintf("released %q after %s", r.cmd.Name, ago(time.Since(r.begun).Seconds())))
	case !errors.Is(err, dd.ErrLost) && within != releaseWithin:
		r.say(fmt.Sprintf("the lock falls free in %s, for it could not be released: %s", ago(r.cmd.TTL.json()), plain(err)))
	}
}
