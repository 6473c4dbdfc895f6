package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/alecthomas/kong"

	"github.com/doubledutch-lock/doubledutch/cmd/doubledutch/exitcode"
)

// handoverCmd hands a held lock over.
type handoverCmd struct {
	Name string `arg:"" help:"Name of the lock."`
	To   string `required:"" placeholder:"OWNER" help:"Owner of the waiter that shall have the lock next."`
	keyFlags
	clientFlags
}

// AfterApply settles which of two flags counts.
func (*handoverCmd) AfterApply(ctx *kong.Context) error { return settleKeys(ctx) }

// Help shows an example.
func (*handoverCmd) Help() string {
	return `The hold ends, and the first waiter of that owner gets the lock, before all others that wait. If nobody of that
owner waits, nothing changes. If the key does not hold the lock (any more), the exit code is 4.

Examples:

    doubledutch handover backups --to worker-8 --key-file key
    DOUBLEDUTCH_KEY=$KEY doubledutch handover backups --to worker-8`
}

// Run hands the lock over.
func (h *handoverCmd) Run(c *console) error {
	path, err := lockPath(h.Name)
	if err != nil {
		return err
	}
	key, err := h.load(c.in)
	if err != nil {
		return err
	}
	if key == "" {
		return exitcode.With(exitcode.Usage, errors.New("no key: give it with --key-file or in DOUBLEDUTCH_KEY"))
	}
	body := map[string]any{"key": key, "to": h.To}
	return h.run(c, func(ctx context.Context, server *client) error {
		got, err := server.do(ctx, request{method: http.MethodPost, path: path + "/handover", body: body})
		if err != nil {
			return err
		}
		return h.report(c, got, &struct{}{}, func() string {
			return fmt.Sprintf("handed %q over to %s", h.Name, printable(h.To))
		})
	})
}
