package fencing

import (
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	_ "github.com/go-sql-driver/mysql"
)

// startMariaDB brings up a MariaDB of its own on a socket in its directory.
func startMariaDB(install, mariadbd string) (err error) {
	if maria.place, err = newPlace("mysql"); err != nil {
		return err
	}
	data := filepath.Join(maria.place.dir, "data")
	if err := maria.place.run(install, "--no-defaults", "--datadir="+data, "--auth-root-authentication-method=normal", "--skip-test-db"); err != nil {
		return err
	}
	ready := func() error {
		db, err := sql.Open("mysql", mariaDSN(""))
		if err != nil {
			return err
		}
		return errors.Join(db.Ping(), db.Close())
	}
	maria.proc, err = maria.place.start(ready, mariadbd, "--no-defaults", "--datadir="+data, "--socket="+mariaSocket(), "--skip-networking",
		"--innodb-flush-log-at-trx-commit=0", "--pid-file="+filepath.Join(maria.place.dir, "pid"))
	return err
}

func mariaSocket() string { return filepath.Join(maria.place.dir, "socket") }

func mariaDSN(name string) string { return "root@unix(" + mariaSocket() + ")/" + name }

// openMariaDB returns an empty database of a real MariaDB.
func openMariaDB(t *testing.T) *sql.DB {
	t.Helper()
	install, mariadbd := find(t, "mariadb-install-db", "mariadb-server"), find(t, "mariadbd", "mariadb-server")
	maria.once.Do(func() { maria.err = startMariaDB(install, mariadbd) })
	if maria.err != nil {
		t.Fatal(maria.err)
	}
	name := fmt.Sprintf("test%d", schemas.next())
	all, err := sql.Open("mysql", mariaDSN(""))
	if err != nil {
		t.Fatal(err)
	}
	exec(t, all, "CREATE DATABASE "+name+" CHARACTER SET utf8mb4")
	_ = all.Close()
	db, err := sql.Open("mysql", mariaDSN(name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}
