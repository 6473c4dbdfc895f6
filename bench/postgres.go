package main

import (
	"context"
	"errors"
	"hash/fnv"
	"syscall"

	"github.com/jackc/pgx/v5"
)

func postgres() *System {
	return &System{
		Name: "PostgreSQL, advisory locks", Kept: "no", Settings: "`max_connections=500`, `max_locks_per_transaction=256`; pgx, pg_advisory_lock of the name's hash, a connection for each client",
		programs: []string{"postgres", "initdb"}, packages: []string{"postgresql"}, start: startPostgres,
	}
}

func startPostgres(ctx context.Context, h *host) (*service, error) {
	const account = "postgres"
	h.end = syscall.SIGINT // SIGTERM would wait for its clients
	dir, err := h.folder(account, "data")
	if err != nil {
		return nil, err
	}
	if _, err := h.prepare(ctx, account, "initdb", "-D", dir, "-U", account, "-A", "trust", "--no-sync", "--no-locale", "-E", "UTF8"); err != nil {
		return nil, err
	}
	at, err := address()
	if err != nil {
		return nil, err
	}
	err = h.start(account, "postgres", "-D", dir, "-p", port(at), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=",
		"-c", "max_connections=500", "-c", "max_locks_per_transaction=256")
	if err != nil {
		return nil, err
	}
	dial := func(ctx context.Context) (*pgx.Conn, error) {
		return pgx.Connect(ctx, "postgres://"+account+"@"+at+"/postgres?sslmode=disable")
	}
	s, err := h.await(ctx, &service{dial: func(ctx context.Context, _ int) (client, error) {
		c, err := dial(ctx)
		if err != nil {
			return nil, err
		}
		return &postgresClient{c}, nil
	}})
	if err != nil {
		return nil, err
	}
	c, err := dial(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close(context.WithoutCancel(ctx)) }()
	return s, c.QueryRow(ctx, "show server_version").Scan(&s.version)
}

type postgresClient struct{ conn *pgx.Conn }

func (c *postgresClient) lock(ctx context.Context, name string) (held, error) {
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(name))
	h := &postgresHeld{c.conn, int64(hash.Sum64())}
	if _, err := c.conn.Exec(ctx, "select pg_advisory_lock($1)", h.key); err != nil {
		return nil, err
	}
	return h, nil
}

func (c *postgresClient) close() { _ = c.conn.Close(context.Background()) }

type postgresHeld struct {
	conn *pgx.Conn
	key  int64
}

func (h *postgresHeld) unlock(ctx context.Context) error {
	var released bool
	if err := h.conn.QueryRow(ctx, "select pg_advisory_unlock($1)", h.key).Scan(&released); err != nil {
		return err
	}
	if !released {
		return errors.New("it was not held")
	}
	return nil
}
