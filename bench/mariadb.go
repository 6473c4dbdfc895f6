package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	_ "github.com/go-sql-driver/mysql" // registers itself
)

func mariadb() *System {
	return &System{
		Name: "MariaDB, GET_LOCK", Kept: "no", Settings: "`max_connections=500`; go-sql-driver/mysql with interpolateParams, a connection for each client",
		programs: []string{"mariadbd", "mariadb-install-db"}, packages: []string{"mariadb-server"}, start: startMariadb,
	}
}

func startMariadb(ctx context.Context, h *host) (*service, error) {
	const account = "mysql"
	dir, err := h.folder(account, "data")
	if err != nil {
		return nil, err
	}
	_, err = h.prepare(ctx, account, "mariadb-install-db", "--no-defaults", "--datadir="+dir, "--auth-root-authentication-method=normal", "--skip-test-db")
	if err != nil {
		return nil, err
	}
	at, err := address()
	if err != nil {
		return nil, err
	}
	err = h.start(account, "mariadbd", "--no-defaults", "--datadir="+dir, "--bind-address=127.0.0.1", "--port="+port(at),
		"--socket="+dir+"/socket", "--pid-file="+dir+"/pid", "--max-connections=500", "--skip-name-resolve", "--skip-log-bin")
	if err != nil {
		return nil, err
	}
	dial := func(ctx context.Context) (*mariadbClient, error) {
		db, err := sql.Open("mysql", "root@tcp("+at+")/?interpolateParams=true")
		if err != nil {
			return nil, err
		}
		conn, err := db.Conn(ctx)
		if err != nil {
			return nil, errors.Join(err, db.Close())
		}
		return &mariadbClient{db, conn}, nil
	}
	s, err := h.await(ctx, &service{dial: func(ctx context.Context, _ int) (client, error) { return dial(ctx) }})
	if err != nil {
		return nil, err
	}
	c, err := dial(ctx)
	if err != nil {
		return nil, err
	}
	defer c.close()
	return s, c.conn.QueryRowContext(ctx, "select version()").Scan(&s.version)
}

type mariadbClient struct {
	db   *sql.DB
	conn *sql.Conn
}

func (c *mariadbClient) lock(ctx context.Context, name string) (held, error) {
	h := &mariadbHeld{c.conn, name}
	return h, h.ask(ctx, "select get_lock(?, 3600)")
}

func (c *mariadbClient) close() {
	_ = c.conn.Close()
	_ = c.db.Close()
}

type mariadbHeld struct {
	conn *sql.Conn
	name string
}

func (h *mariadbHeld) unlock(ctx context.Context) error { return h.ask(ctx, "select release_lock(?)") }

// ask calls a function that answers with 1 when all is well.
func (h *mariadbHeld) ask(ctx context.Context, query string) error {
	var done sql.NullInt64
	if err := h.conn.QueryRowContext(ctx, query, h.name).Scan(&done); err != nil {
		return err
	}
	if done.Int64 != 1 {
		return fmt.Errorf("%s: %+v", query, done)
	}
	return nil
}
