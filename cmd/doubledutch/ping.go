package main

import (
	"context"
	"fmt"
	"net/http"
)

// pingCmd asks whether the server is ready. The Docker image uses it as its health check.
type pingCmd struct {
	clientFlags
}

// Help shows an example.
func (*pingCmd) Help() string {
	return `The exit code is 0 if the server can take requests now and 5 if not.

Example:

    until doubledutch ping; do sleep 1; done`
}

// Run asks once.
func (p *pingCmd) Run(c *console) error {
	return p.run(c, func(ctx context.Context, server *client) error {
		if _, err := server.do(ctx, request{method: http.MethodGet, path: "/readyz"}); err != nil {
			return err
		}
		if p.JSON {
			return printJSON(c.out, map[string]bool{"ready": true})
		}
		_, err := fmt.Fprintln(c.out, "ready")
		return err
	})
}
