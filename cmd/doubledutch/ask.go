package main

import (
	"context"
	"fmt"
	"net/http"
)

// askCmd asks the holders of a lock to make way.
type askCmd struct {
	Name   string   `arg:"" help:"Name of the lock."`
	Reason string   `required:"" placeholder:"TEXT" help:"Why; the holder and everybody who looks at the lock are told."`
	Owner  string   `placeholder:"TEXT" help:"Who asks (default: user@host)."`
	Within lifetime `default:"60s" placeholder:"DURATION" help:"How long they are asked to take at most (default ${default})."`
	clientFlags
}

// Help shows what comes of it.
func (*askCmd) Help() string {
	return `The holder is told in the answer to its next renewal, and at once if it follows the events of the lock.
Nothing else happens: it is up to the holder. Asking again in the same words changes nothing.
If nobody holds the lock, the exit code is 4.

Example:

    doubledutch ask backups --reason "the disk is to be replaced" --within 5m`
}

// askRequest is what the server is sent.
type askRequest struct {
	Owner  string  `json:"owner,omitempty"`
	Reason string  `json:"reason"`
	Within float64 `json:"within"`
}

// Run asks.
func (a *askCmd) Run(c *console) error {
	path, err := lockPath(a.Name)
	if err != nil {
		return err
	}
	body := &askRequest{Owner: a.Owner, Reason: a.Reason, Within: a.Within.json()}
	if body.Owner == "" {
		body.Owner = defaultOwner()
	}
	return a.run(c, func(ctx context.Context, server *client) error {
		got, err := server.do(ctx, request{method: http.MethodPost, path: path + "/ask", body: body})
		if err != nil {
			return err
		}
		var asked struct {
			Holder      *holderAnswer `json:"holder"`
			HolderCount int           `json:"holder_count"`
		}
		return a.report(c, got, &asked, func() string {
			who := "the holder"
			if asked.Holder != nil {
				who = printable(somebody(asked.Holder.Owner))
			}
			if asked.HolderCount > 1 {
				who += fmt.Sprintf(" and %d more", asked.HolderCount-1)
			}
			return fmt.Sprintf("asked %s to make way within %s", who, ago(a.Within.json()))
		})
	})
}
