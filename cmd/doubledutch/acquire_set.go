package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/doubledutch-lock/doubledutch/cmd/doubledutch/exitcode"
)

// goal is what an acquire is for: one lock, or a set of them.
type goal struct {
	path    string   // where it is acquired
	release string   // where the key is released
	names   []string // of a set
}

// newGoal takes the name of a lock, or several with commas between them. A name with a comma in it can be acquired with
// single only.
func newGoal(name string, single bool) (*goal, error) {
	if single || !strings.Contains(name, ",") {
		path, err := lockPath(name)
		return &goal{path: path, release: path}, err
	}
	t := &goal{path: "/v1/locks", release: "/v1/holds", names: strings.Split(name, ",")}
	for i, n := range t.names {
		if n == "" {
			return nil, exitcode.With(exitcode.Usage, errors.New("a name between the commas is empty"))
		}
		for _, other := range t.names[:i] {
			if n == other {
				return nil, exitcode.With(exitcode.Usage, fmt.Errorf("%q is named twice", n))
			}
		}
	}
	return t, nil
}

// setNameBody is one lock of a set that is not simply exclusive.
type setNameBody struct {
	Name  string `json:"name"`
	Mode  string `json:"mode,omitempty"`
	Slots uint32 `json:"slots,omitempty"`
}

// spread moves mode and slots to each of the names of a set.
func (b *acquireBody) spread(names []string) {
	if names == nil {
		return
	}
	for _, n := range names {
		b.Names = append(b.Names, setNameBody{Name: n, Mode: b.Mode, Slots: b.Slots})
	}
	b.Mode, b.Slots = "", 0
}

// deadlockText is the cycle of a deadlock for a person, one step a line.
func (p *problem) deadlockText() string {
	var b strings.Builder
	b.WriteString("this would wait for itself")
	for _, w := range p.Cycle {
		how := "held by"
		if w.Queued {
			how = "behind"
		}
		fmt.Fprintf(&b, "; %s waits for %s, %s %s", cell(w.Owner), cell(w.WaitsFor), how, cell(w.HeldBy))
	}
	return b.String()
}

// verifyCmd asks whether a token is still good.
type verifyCmd struct {
	Name  string `arg:"" help:"Name of the lock."`
	Token uint64 `arg:"" help:"The fencing token."`
	clientFlags
}

// Help shows an example.
func (*verifyCmd) Help() string {
	return `The exit code is 0 if the token is the newest of those that hold the lock, and 4 if it is not.

Examples:

    doubledutch verify backups 42 && write-the-backup`
}

// Run asks the server.
func (v *verifyCmd) Run(c *console) error {
	return v.run(c, func(ctx context.Context, server *client) error {
		body := map[string]any{"name": v.Name, "token": v.Token}
		got, err := server.do(ctx, request{method: http.MethodPost, path: "/v1/verify", body: body})
		if err != nil {
			return err
		}
		var a struct {
			Valid bool `json:"valid"`
		}
		if err := decode(got.body, &a); err != nil {
			return err
		}
		if v.JSON {
			if err := printRaw(c.out, got.body); err != nil {
				return err
			}
		}
		if !a.Valid {
			return exitcode.With(exitcode.NotHeld, fmt.Errorf("the token %d does not hold %q (any more)", v.Token, v.Name))
		}
		if v.JSON {
			return nil
		}
		_, err = fmt.Fprintf(c.out, "the token %d holds %q\n", v.Token, printable(v.Name))
		return err
	})
}
