package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/doubledutch-lock/doubledutch/cmd/doubledutch/exitcode"
)

// hold is the lock and the key by which renew and release act.
type hold struct {
	Name string `arg:"" help:"Name of the lock."`
	Key  secret `arg:"" optional:"" env:"DOUBLEDUTCH_KEY" help:"The key that acquire printed, or - to read it from standard input. Other users of this machine can see command lines: prefer the variable or -."`
}

// find returns the path of the lock and the key.
func (h *hold) find(c *console) (path, key string, err error) {
	if path, err = lockPath(h.Name); err != nil {
		return "", "", err
	}
	key, err = h.key(c.in)
	return path, key, err
}

// key returns the key, reading it from in if the argument says so.
func (h *hold) key(in io.Reader) (string, error) {
	key := h.Key.reveal()
	if key == "-" {
		line, err := bufio.NewReader(io.LimitReader(in, 4096)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return "", fmt.Errorf("cannot read the key from standard input: %w", err)
		}
		key = strings.TrimSpace(line)
	}
	if key == "" {
		return "", exitcode.With(exitcode.Usage, errors.New("no key: give it as an argument, in DOUBLEDUTCH_KEY or, with -, on standard input"))
	}
	if strings.ContainsFunc(key, notInHeader) {
		return "", exitcode.With(exitcode.Usage, errors.New("that is not a key: keys are 32 letters and digits"))
	}
	return key, nil
}

// explain says what to do where somebody names a set as acquire does: its key is good under each single name.
func (h *hold) explain(err error) error {
	first, _, several := strings.Cut(h.Name, ",")
	var p *problem
	if !several || first == "" || !errors.As(err, &p) || p.Code != "not_held" {
		return err
	}
	return fmt.Errorf("%w The key of several locks goes with one of their names, such as %q", err, first)
}

// renewCmd renews a hold.
type renewCmd struct {
	hold
	TTL lifetime `name:"ttl" placeholder:"DURATION" help:"New lifetime (default: the one it has)."`
	clientFlags
}

// Help shows how a script uses it.
func (*renewCmd) Help() string {
	return `If the key does not hold the lock any more, the exit code is 4.

Examples:

    doubledutch renew backups "$KEY"
    DOUBLEDUTCH_KEY=$KEY doubledutch renew --ttl 5m backups`
}

// Run renews the hold.
func (r *renewCmd) Run(c *console) error {
	path, key, err := r.find(c)
	if err != nil {
		return err
	}
	body := map[string]any{"key": key}
	if r.TTL > 0 {
		body["ttl"] = r.TTL.json()
	}
	return r.run(c, func(ctx context.Context, server *client) error {
		got, err := server.do(ctx, request{method: http.MethodPost, path: path + "/renew", body: body})
		if err != nil {
			return r.explain(err)
		}
		var renewed struct {
			ExpiresIn float64      `json:"expires_in"`
			Asked     *askedAnswer `json:"asked"`
		}
		return r.report(c, got, &renewed, func() string {
			text := fmt.Sprintf("renewed %q: expires in %s", r.Name, ago(renewed.ExpiresIn))
			if renewed.Asked != nil {
				text += "\n" + printable(renewed.Asked.sentence())
			}
			return text
		})
	})
}

// releaseCmd releases a hold or a place in the queue.
type releaseCmd struct {
	hold
	clientFlags
}

// Help shows how a script uses it.
func (*releaseCmd) Help() string {
	return `If the key does not hold the lock (any more), the exit code is 4.

Examples:

    doubledutch release backups "$KEY"
    echo "$KEY" | doubledutch release backups -`
}

// Run releases the hold.
func (r *releaseCmd) Run(c *console) error {
	path, key, err := r.find(c)
	if err != nil {
		return err
	}
	return r.run(c, func(ctx context.Context, server *client) error {
		got, err := server.do(ctx, request{method: http.MethodDelete, path: path, lockKey: key})
		if err != nil {
			return r.explain(err)
		}
		return r.report(c, got, &struct{}{}, func() string {
			return fmt.Sprintf("released %q", r.Name)
		})
	})
}
