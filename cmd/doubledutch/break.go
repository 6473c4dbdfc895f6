package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/doubledutch-lock/doubledutch/cmd/doubledutch/exitcode"
)

// breakCmd ends the holds of a lock.
type breakCmd struct {
	Name   string `arg:"" help:"Name of the lock."`
	Reason string `required:"" placeholder:"TEXT" help:"Why; the holder, the history of the lock and the server's log are told."`
	Owner  string `placeholder:"TEXT" help:"Who orders it (default: user@host)."`
	Token  uint64 `env:"DOUBLEDUTCH_BREAK_TOKEN" placeholder:"N" help:"Break only holds with this token or an older one (default: those that are shown before)."`
	Yes    bool   `short:"y" help:"Do not ask back."`
	clientFlags
}

// Help warns.
func (*breakCmd) Help() string {
	return `Shows who holds the lock and, on a terminal, asks back; elsewhere --yes has to be there. Only the holds that were
shown are broken, never a later one. The lock is free, or goes to the next who waits: at once or, if the hold had a
lock delay, after that. Nothing stops the old holder: it learns of it when it renews. Unless the resource behind the lock looks at tokens, see to it that
the old holder does not go on. If nobody holds the lock, the exit code is 4.

Examples:

    doubledutch break backups --reason "worker-3 hangs, its machine was turned off"
    doubledutch break backups --reason "worker-3 hangs" --token 41 --yes`
}

// Run shows the holders, asks back and breaks their holds.
func (b *breakCmd) Run(c *console) error {
	path, err := lockPath(b.Name)
	if err != nil {
		return err
	}
	if b.Owner == "" {
		b.Owner = defaultOwner()
	}
	if !b.Yes && !isInteractive(c.in) {
		return exitcode.With(exitcode.Usage, errors.New("standard input is no terminal to ask back on: say --yes"))
	}
	return b.run(c, func(ctx context.Context, server *client) error {
		if err := b.look(ctx, c, server, path); err != nil {
			return err
		}
		got, err := server.do(ctx, request{method: http.MethodDelete, path: path + "/holders?" + b.query()})
		if err != nil {
			return err
		}
		var broken struct {
			Broken int `json:"broken"`
		}
		return b.report(c, got, &broken, func() string {
			if broken.Broken == 1 {
				return fmt.Sprintf("broke the hold of %q", b.Name)
			}
			return fmt.Sprintf("broke %d holds of %q", broken.Broken, b.Name)
		})
	})
}

func (b *breakCmd) query() string {
	q := url.Values{"reason": {b.Reason}, "owner": {b.Owner}, "token": {strconv.FormatUint(b.Token, 10)}}
	return q.Encode()
}

// look shows the lock, finds the newest token that is shown, unless one was given, and asks back.
func (b *breakCmd) look(ctx context.Context, c *console, server *client, path string) error {
	if b.Yes && b.Token > 0 {
		return nil
	}
	got, err := server.do(ctx, request{method: http.MethodGet, path: path})
	if err != nil {
		return err
	}
	var lock lockAnswer
	if err := decode(got.body, &lock); err != nil {
		return err
	}
	if len(lock.Holders) == 0 {
		return exitcode.With(exitcode.NotHeld, errors.New("nobody holds this lock"))
	}
	if b.Token == 0 {
		for i := range lock.Holders {
			b.Token = max(b.Token, lock.Holders[i].Token)
		}
	}
	if !b.JSON {
		if err := printLock(c.err, &lock, got.at, false); err != nil {
			return err
		}
	}
	if b.Yes {
		return nil
	}
	return confirm(ctx, c.in, c.err, fmt.Sprintf("\nBreak the holds up to token %d? They may still be at work. [y/N] ", b.Token))
}

// confirm asks a person, who can also say no by ending ctx with a signal. Then a goroutine stays behind that reads from in.
func confirm(ctx context.Context, in io.Reader, out io.Writer, question string) error {
	if _, err := io.WriteString(out, question); err != nil {
		return err
	}
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(io.LimitReader(in, 4096)).ReadString('\n') // what cannot be read is no yes
		answer <- line
	}()
	select {
	case <-ctx.Done():
		return exitcode.With(exitcode.Interrupted, errors.New("interrupted; nothing was broken"))
	case line := <-answer:
		switch strings.ToLower(strings.TrimSpace(line)) {
		case "y", "yes":
			return nil
		}
	}
	return exitcode.With(exitcode.Failure, errors.New("nothing was broken"))
}

// isInteractive tells whether a person sits at in.
func isInteractive(in io.Reader) bool {
	w, ok := in.(io.Writer)
	return ok && isTerminal(w)
}
