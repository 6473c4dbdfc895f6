package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/doubledutch-lock/doubledutch/cmd/doubledutch/exitcode"
)

// electCmd campaigns for an office, which is a lock, and keeps it.
type electCmd struct {
	Name  string   `arg:"" help:"Name of the election."`
	Value string   `placeholder:"TEXT" help:"What others shall know of the leader, such as its address."`
	Owner string   `placeholder:"TEXT" help:"Who campaigns, for others to see (default: user@host)."`
	TTL   lifetime `name:"ttl" default:"10s" placeholder:"DURATION" help:"How long after its last renewal a leader that fell silent is replaced (default ${default})."`
	clientFlags
}

// Help shows how a script uses it.
func (*electCmd) Help() string {
	return `Waits until it is elected, prints the fencing token on standard output, and stays leader until a signal ends it: then it
resigns, and the exit code is 0. If the office is lost, the exit code is 4, and the process that works as the leader must
stop. An election is a lock: "show", "watch" and "break" work on its name.

Examples:

    doubledutch elect scheduler --value http://10.0.0.7:8080
    doubledutch leader scheduler --watch`
}

// office is an election that was won.
type office struct {
	cmd    *electCmd
	server *client
	path   string
	key    string
	until  time.Time // when it ends unless renewed
	ttl    time.Duration
}

// Run campaigns, serves and resigns.
func (e *electCmd) Run(c *console) error {
	path, err := lockPath(e.Name)
	if err != nil {
		return err
	}
	return e.run(c, func(ctx context.Context, server *client) error {
		campaign := &acquireCmd{Name: e.Name, TTL: e.TTL, Wait: -1, Mode: "exclusive", Owner: e.Owner, Metadata: e.Value}
		body := campaign.body()
		o := &office{cmd: e, server: server, path: path, key: body.Key, ttl: e.TTL.duration()}
		got, err := campaign.acquire(ctx, server, &goal{path: path, release: path}, body)
		if err != nil {
			return err
		}
		var g grantAnswer
		if err := decode(got.body, &g); err != nil {
			return err
		}
		// It waited for who knows how long: what counts is the moment of the next renewal.
		if err := o.begin(ctx); err != nil {
			return o.resign(ctx, err)
		}
		if err := o.announce(c, got, g.Token); err != nil {
			return o.resign(ctx, err)
		}
		return o.resign(ctx, o.serve(ctx))
	})
}

func (o *office) announce(c *console, got *answer, token uint64) error {
	if o.cmd.JSON {
		return printRaw(c.out, got.body)
	}
	_, err := fmt.Fprintln(c.out, token)
	return err
}

// serve renews until ctx ends (nil) or the office is lost.
func (o *office) serve(ctx context.Context) error {
	wait := o.ttl / 3
	for {
		if pause(ctx, wait) != nil {
			return nil
		}
		sent := time.Now()
		err := o.renew(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			wait = o.ttl / 3
		case exitcode.Of(err) != exitcode.Unavailable:
			return exitcode.With(exitcode.NotHeld, fmt.Errorf("%q is lost: %w", o.cmd.Name, err))
		case sent.After(o.until) || time.Now().After(o.until):
			return exitcode.With(exitcode.NotHeld, fmt.Errorf("%q is lost: it could not be renewed in time: %w", o.cmd.Name, err))
		default:
			wait = min(o.ttl/10, time.Until(o.until))
		}
	}
}

// begin renews for the first time, and as often as it takes: as long as the office was not announced, nobody works in it.
func (o *office) begin(ctx context.Context) error {
	for {
		err := o.renew(ctx)
		if err == nil || ctx.Err() == nil && exitcode.Of(err) != exitcode.Unavailable {
			return err
		}
		if err := pause(ctx, retryPause); err != nil {
			return err
		}
	}
}

// renew asks once, for at most a third of the lifetime.
func (o *office) renew(ctx context.Context) error {
	sent := time.Now()
	ctx, cancel := context.WithTimeout(ctx, max(o.ttl/3, 100*time.Millisecond))
	defer cancel()
	got, err := o.server.do(ctx, request{method: http.MethodPost, path: o.path + "/renew", body: map[string]any{"key": o.key}})
	if err != nil {
		return err
	}
	var a struct {
		ExpiresIn float64 `json:"expires_in"`
	}
	if err := decode(got.body, &a); err != nil {
		return err
	}
	o.until = sent.Add(time.Duration(a.ExpiresIn * float64(time.Second)))
	return nil
}

// resign gives the office up, unless it is lost, and returns err.
func (o *office) resign(_ context.Context, err error) error {
	if exitcode.Of(err) == exitcode.NotHeld {
		return err
	}
	if failed := release(o.server, o.path, o.key); failed != nil && exitcode.Of(failed) != exitcode.NotHeld {
		return errors.Join(err, fmt.Errorf("could not resign; the office falls free in %s: %w", ago(o.ttl.Seconds()), failed))
	}
	return err
}

// leaderCmd tells who leads.
type leaderCmd struct {
	Name  string `arg:"" help:"Name of the election."`
	Watch bool   `help:"Go on, and tell each change."`
	clientFlags
}

// Help shows an example.
func (*leaderCmd) Help() string {
	return `Prints token, owner and value of the leader, with tabs between them. If nobody leads, the exit code is 4; with --watch a
line with a dash is printed instead.

Examples:

    doubledutch leader scheduler
    doubledutch leader scheduler --watch`
}

// Run tells who leads, once or at each change.
func (l *leaderCmd) Run(c *console) error {
	path, err := lockPath(l.Name)
	if err != nil {
		return err
	}
	return l.run(c, func(ctx context.Context, server *client) error {
		if !l.Watch {
			_, err := l.tell(ctx, c, server, path, 0, false)
			return err
		}
		var last uint64
		first := true
		look := func() (err error) {
			last, err = l.tell(ctx, c, server, path, last, !first)
			if exitcode.Of(err) == exitcode.NotHeld {
				err = nil
			}
			first = false
			return err
		}
		return server.follow(ctx, path+"/events", look, func(*eventAnswer) error { return look() })
	})
}

// tell prints who leads, and returns the token; 0 if nobody does. With quiet, only if it is another one than before.
func (l *leaderCmd) tell(ctx context.Context, c *console, server *client, path string, before uint64, quiet bool) (uint64, error) {
	got, err := server.do(ctx, request{method: http.MethodGet, path: path})
	if err != nil {
		return before, err
	}
	var lock lockAnswer
	if err := decode(got.body, &lock); err != nil {
		return before, err
	}
	if len(lock.Holders) == 0 {
		if l.Watch && !(quiet && before == 0) {
			_, err = fmt.Fprintln(c.out, "-")
			return 0, err
		}
		return 0, exitcode.With(exitcode.NotHeld, fmt.Errorf("nobody leads %q", l.Name))
	}
	h := &lock.Holders[0]
	if quiet && h.Token == before {
		return before, nil
	}
	if l.JSON {
		return h.Token, printJSON(c.out, h)
	}
	_, err = fmt.Fprintf(c.out, "%d\t%s\t%s\n", h.Token, cell(h.Owner), cell(h.Metadata))
	return h.Token, err
}
