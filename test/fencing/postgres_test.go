package fencing

import (
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib"
)

// shared is a server that the tests of this package have in common. It is started when the first of them needs it.
type shared struct {
	once  sync.Once
	place *place
	proc  *process
	err   error
	with  syscall.Signal // to stop it
}

func (s *shared) stop() {
	if s.proc != nil {
		s.proc.stop(s.with)
	}
	if s.place != nil {
		s.place.remove()
	}
}

var (
	pg    = &shared{with: syscall.SIGINT}
	maria = &shared{with: syscall.SIGTERM}
)

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	defer pg.stop()
	defer maria.stop()
	return m.Run()
}

// startPostgres brings up a PostgreSQL of its own on a socket in its directory.
func startPostgres(initdb, postgres string) (err error) {
	if pg.place, err = newPlace("postgres"); err != nil {
		return err
	}
	data := filepath.Join(pg.place.dir, "data")
	if err := pg.place.run(initdb, "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"); err != nil {
		return err
	}
	ready := func() error {
		db, err := sql.Open("pgx", postgresURL(""))
		if err != nil {
			return err
		}
		return errors.Join(db.Ping(), db.Close())
	}
	pg.proc, err = pg.place.start(ready, postgres, "-D", data, "-k", pg.place.dir, "-h", "", "-c", "fsync=off", "-c", "max_connections=200")
	return err
}

func postgresURL(schema string) string {
	q := url.Values{"host": {pg.place.dir}, "user": {"postgres"}, "database": {"postgres"}, "sslmode": {"disable"}}
	if schema != "" {
		q.Set("search_path", schema)
		q.Set("application_name", schema) // so that a test knows its own connections
	}
	return "postgres:///?" + q.Encode()
}

var schemas counter

// counter gives out numbers.
type counter struct {
	mu sync.Mutex // guards n
	n  int
}

func (c *counter) next() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	return c.n
}

// openPostgres returns an empty schema of a real PostgreSQL.
func openPostgres(t *testing.T) *sql.DB {
	t.Helper()
	initdb, postgres := find(t, "initdb", "postgresql"), find(t, "postgres", "postgresql")
	pg.once.Do(func() { pg.err = startPostgres(initdb, postgres) })
	if pg.err != nil {
		t.Fatal(pg.err)
	}
	schema := fmt.Sprintf("test%d", schemas.next())
	db, err := sql.Open("pgx", postgresURL(schema))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	exec(t, db, "CREATE SCHEMA "+schema)
	return db
}

// exec runs statements that must succeed.
func exec(t *testing.T, db *sql.DB, statements ...string) {
	t.Helper()
	for _, s := range statements {
		if _, err := db.ExecContext(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}
