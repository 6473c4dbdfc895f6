package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/doubledutch-lock/doubledutch/cmd/doubledutch/exitcode"
)

// watchCmd prints what happens.
type watchCmd struct {
	Name   string `arg:"" optional:"" help:"Name of the lock, or of the task with --tasks (default: all)."`
	Prefix bool   `help:"All whose names begin so."`
	Tasks  bool   `help:"Tasks instead of locks."`
	clientFlags
}

// Help shows an example.
func (*watchCmd) Help() string {
	return `Prints one line for each event, from now on, until it is interrupted. When the connection is lost it goes on after the
last event; "missed" says that some could not be told.

Examples:

    doubledutch watch
    doubledutch watch backups
    doubledutch watch --tasks --prefix nightly/ --json`
}

// Run follows the events.
func (w *watchCmd) Run(c *console) error {
	path, err := w.path()
	if err != nil {
		return err
	}
	return w.run(c, func(ctx context.Context, server *client) error {
		return server.follow(ctx, path, func() error { return nil }, func(e *eventAnswer) error {
			if w.JSON {
				_, err := fmt.Fprintf(c.out, "{\"id\":%q,\"event\":%q,\"data\":%s}\n", e.ID, e.Kind, e.Raw)
				return err
			}
			_, err := fmt.Fprintln(c.out, e.line())
			return err
		})
	})
}

func (w *watchCmd) path() (string, error) {
	of := "locks"
	if w.Tasks {
		of = "tasks"
	}
	switch {
	case w.Name == "" && w.Prefix:
		return "", exitcode.With(exitcode.Usage, errors.New("--prefix needs a name to begin with"))
	case w.Name == "" || w.Prefix:
		q := url.Values{"of": {of}}
		if w.Prefix {
			q.Set("prefix", w.Name)
		}
		return "/v1/events?" + q.Encode(), nil
	}
	path, err := namedPath(of, w.Name)
	return path + "/events", err
}

// line is an event as a person reads it.
func (e *eventAnswer) line() string {
	at := e.At
	if at.IsZero() {
		at = time.Now()
	}
	words := []string{at.UTC().Format("15:04:05.000"), cell(e.Kind)}
	if e.Kind == "missed" {
		return strings.Join(append(words, "some events could not be told; look at the present state"), "  ")
	}
	words = append(words, cell(e.Name))
	if e.Token != 0 {
		words = append(words, "token "+strconv.FormatUint(e.Token, 10))
	}
	for _, x := range []struct{ name, text string }{
		{"owner", e.Owner},
		{"metadata", e.Metadata},
		{"status", e.Status},
		{"progress", e.Progress},
		{"result", e.Result},
		{"error", e.Error},
		{"by", e.By},
		{"reason", e.Reason},
	} {
		if x.text != "" {
			words = append(words, x.name+"="+strconv.Quote(printable(x.text)))
		}
	}
	return strings.Join(words, "  ")
}
