package main

import (
	"context"
	"time"

	"github.com/bsm/redislock"
	"github.com/redis/go-redis/v9"
)

func redisVolatile() *System {
	return &System{
		Name: "Redis, no persistence", Kept: "no", Settings: "`--save '' --appendonly no`; go-redis with bsm/redislock, which asks again each 10 ms",
		programs: []string{"redis-server"}, packages: []string{"redis-server"},
		start: func(ctx context.Context, h *host) (*service, error) { return startRedis(ctx, h, "--appendonly", "no") },
	}
}

func redisDurable() *System {
	return &System{
		Name: "Redis, appendfsync always", Kept: "yes", Settings: "`--save '' --appendonly yes --appendfsync always`; client as above",
		programs: []string{"redis-server"}, packages: []string{"redis-server"},
		start: func(ctx context.Context, h *host) (*service, error) {
			return startRedis(ctx, h, "--appendonly", "yes", "--appendfsync", "always")
		},
	}
}

func startRedis(ctx context.Context, h *host, flags ...string) (*service, error) {
	at, err := address()
	if err != nil {
		return nil, err
	}
	args := []string{"redis-server", "--bind", "127.0.0.1", "--port", port(at), "--dir", h.dir, "--save", ""}
	if err := h.start("", append(args, flags...)...); err != nil {
		return nil, err
	}
	s, err := h.await(ctx, &service{dial: func(context.Context, int) (client, error) {
		r := redis.NewClient(&redis.Options{Addr: at, PoolSize: 1, ReadTimeout: time.Minute})
		return &redisClient{r, redislock.New(r)}, nil
	}})
	if err != nil {
		return nil, err
	}
	r := redis.NewClient(&redis.Options{Addr: at})
	defer func() { _ = r.Close() }()
	info, err := r.InfoMap(ctx, "server").Result()
	s.version = info["Server"]["redis_version"]
	return s, err
}

type redisClient struct {
	conn   *redis.Client
	locker *redislock.Client
}

// askAgain is the time between two tries of who finds a lock held: Redis has no queue.
const askAgain = 10 * time.Millisecond

func (c *redisClient) lock(ctx context.Context, name string) (held, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute) // without a deadline it would stop asking after the ttl
	defer cancel()
	l, err := c.locker.Obtain(ctx, name, ttl, &redislock.Options{RetryStrategy: redislock.LinearBackoff(askAgain)})
	if err != nil {
		return nil, err
	}
	return redisHeld{l}, nil
}

func (c *redisClient) close() { _ = c.conn.Close() }

type redisHeld struct{ *redislock.Lock }

func (h redisHeld) unlock(ctx context.Context) error { return h.Release(ctx) }
func (h redisHeld) renew(ctx context.Context) error  { return h.Refresh(ctx, ttl, nil) }
