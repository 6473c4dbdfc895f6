package fencing

import (
	"context"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/redis/go-redis/v9"
)

// startRedis runs a Redis of its own on a socket until the end of the test.
func startRedis(t *testing.T) *redis.Client {
	t.Helper()
	program := find(t, "redis-server", "redis-server")
	p, err := newPlace("redis")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.remove)
	socket := filepath.Join(p.dir, "socket")
	c := redis.NewClient(&redis.Options{Network: "unix", Addr: socket})
	t.Cleanup(func() { _ = c.Close() })
	ready := func() error { return c.Ping(context.Background()).Err() }
	s, err := p.start(ready, program, "--port", "0", "--unixsocket", socket, "--dir", p.dir, "--save", "", "--daemonize", "no")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.stop(syscall.SIGTERM) })
	return c
}

func TestRecipeRedis(t *testing.T) {
	t.Parallel()
	c := startRedis(t)
	ctx := t.Context()
	script := redis.NewScript(recipe(t, "redis"))
	write := func(token any, value string) error {
		return script.Run(ctx, c, []string{"{reports}:value", "{reports}:fence"}, token, value).Err()
	}
	want := func(value string) {
		t.Helper()
		if got, err := c.Get(ctx, "{reports}:value").Result(); err != nil || got != value {
			t.Errorf("the value is %q (%v), want %q", got, err, value)
		}
	}
	stale := func(err error) {
		t.Helper()
		if err == nil || !strings.HasPrefix(err.Error(), "STALE ") {
			t.Errorf("the late writer: %v", err)
		}
	}
	ok(t, write(9, "a"))
	ok(t, write(10, "b"))
	stale(write(9, "late")) // as text 9 would be greater
	ok(t, write(10, "c"))
	want("c")
	ok(t, write(int64(1)<<53-2, "d"))
	ok(t, write(int64(1)<<53-1, "e"))
	stale(write(int64(1)<<53-2, "late")) // the greatest tokens are told apart
	want("e")
}
