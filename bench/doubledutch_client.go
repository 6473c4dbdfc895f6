package main

import (
	"context"

	ddclient "github.com/doubledutch-lock/doubledutch/client"
)

// The same server as above through the Go client, which is how most will use it: what a client does beyond sending a request and
// reading the answer is in it, as it is in those of the others.
func doubledutchClientOne() *System {
	return &System{
		Name: "DoubleDutch, Go client", Ours: true, Kept: "yes", Settings: "one node, by the package `client`",
		start: func(ctx context.Context, h *host) (*service, error) {
			s, err := startDoubledutch(ctx, h, 1)
			if err != nil {
				return nil, err
			}
			s.dial = func(context.Context, int) (client, error) {
				c, err := ddclient.New([]string{s.at})
				if err != nil {
					return nil, err
				}
				return &goClient{c}, nil
			}
			return h.await(ctx, s)
		},
	}
}

type goClient struct{ client *ddclient.Client }

func (c *goClient) lock(ctx context.Context, name string) (held, error) {
	l, err := c.client.Lock(ctx, name)
	if err != nil {
		return nil, err
	}
	return goLease{l}, nil
}

func (c *goClient) close() { _ = c.client.Close() }

// goLease renews itself.
type goLease struct{ *ddclient.Lease }

func (l goLease) unlock(ctx context.Context) error { return l.Unlock(ctx) }
