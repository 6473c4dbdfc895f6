package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/load"
)

func doubledutchVolatile() *System {
	return &System{
		Name: "DoubleDutch, volatile", Ours: true, Kept: "no", Settings: "`serve --volatile`",
		start: func(ctx context.Context, h *host) (*service, error) { return startDoubledutch(ctx, h, 1, "--volatile") },
	}
}

func doubledutchDurable() *System {
	return &System{
		Name: "DoubleDutch, one node", Ours: true, Kept: "yes", Settings: "`serve`; each answer after its sync",
		start: func(ctx context.Context, h *host) (*service, error) { return startDoubledutch(ctx, h, 1) },
	}
}

func doubledutchThree() *System {
	return &System{
		Name: "DoubleDutch, three nodes", Ours: true, Kept: "yes, on two of three", Settings: "three times `serve`; clients spread over the nodes",
		start: func(ctx context.Context, h *host) (*service, error) { return startDoubledutch(ctx, h, 3) },
	}
}

func startDoubledutch(ctx context.Context, h *host, nodes int, flags ...string) (*service, error) {
	program := filepath.Join(h.shared, "doubledutch")
	all, err := addresses(2 * nodes)
	if err != nil {
		return nil, err
	}
	doors, peers := all[:nodes], all[nodes:]
	var members []string
	for i, peer := range peers {
		members = append(members, fmt.Sprintf("n%d=%s", i, peer))
	}
	var endpoints []*load.Endpoint
	for i, door := range doors {
		args := append([]string{program, "serve", "--listen", door, "--log-level", "error", "--quiet"}, flags...)
		if len(flags) == 0 {
			args = append(args, "--data-dir", filepath.Join(h.dir, fmt.Sprint("data", i)))
		}
		if nodes > 1 {
			args = append(args, "--name", fmt.Sprint("n", i), "--cluster-listen", peers[i], "--cluster", strings.Join(members, ","))
		}
		if err := h.start("", args...); err != nil {
			return nil, err
		}
		e, err := load.NewEndpoint("http://"+door, nil)
		if err != nil {
			return nil, err
		}
		endpoints = append(endpoints, e)
	}
	version, err := h.prepare(ctx, "", program, "version")
	if err != nil {
		return nil, err
	}
	return h.await(ctx, &service{version: strings.TrimPrefix(version, "doubledutch "), at: endpoints[0].URL, dial: func(ctx context.Context, id int) (client, error) {
		c, err := endpoints[id%nodes].Dial(ctx, time.Minute)
		if err != nil {
			return nil, err
		}
		return &doubledutchClient{conn: c}, nil
	}})
}

// doubledutchClient speaks HTTP on one connection.
type doubledutchClient struct {
	conn *load.Conn
	out  []byte
}

// ttl is the lifetime of locks that expire on their own.
const ttl = 30 * time.Second

func (c *doubledutchClient) lock(_ context.Context, name string) (held, error) {
	h := &doubledutchHeld{c: c, name: url.PathEscape(name), key: rand.Text() + "ABCDEF"}
	body := `{"key":"` + h.key + `","ttl":30,"wait":-1}`
	a, err := c.post("/v1/locks/"+h.name, body)
	if err != nil {
		return nil, err
	}
	var grant struct{ Token int64 } // every client of the others reads its answers, too
	if err := json.Unmarshal(a.Body, &grant); err != nil || a.Status != 200 || grant.Token == 0 {
		return nil, fmt.Errorf("no grant: %d %s", a.Status, a.Body)
	}
	return h, nil
}

func (c *doubledutchClient) post(path, body string) (load.Answer, error) {
	c.out = append(append(append(c.out[:0], "POST "...), path...), " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "...)
	c.out = append(append(strconv.AppendInt(c.out, int64(len(body)), 10), "\r\n\r\n"...), body...)
	return c.conn.Do(c.out, true)
}

func (c *doubledutchClient) close() { c.conn.Close() }

type doubledutchHeld struct {
	c         *doubledutchClient
	name, key string
}

func (h *doubledutchHeld) unlock(context.Context) error {
	c := h.c
	c.out = append(append(append(c.out[:0], "DELETE /v1/locks/"...), h.name...), " HTTP/1.1\r\nHost: localhost\r\nLock-Key: "...)
	c.out = append(append(c.out, h.key...), "\r\n\r\n"...)
	a, err := c.conn.Do(c.out, true)
	if err == nil && a.Status != 200 {
		err = fmt.Errorf("not released: %d %s", a.Status, a.Body)
	}
	return err
}

func (h *doubledutchHeld) renew(context.Context) error {
	a, err := h.c.post("/v1/locks/"+h.name+"/renew", `{"key":"`+h.key+`"}`)
	if err == nil && a.Status != 200 {
		err = fmt.Errorf("not renewed: %d %s", a.Status, a.Body)
	}
	return err
}
