package fencing

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// errStale is what the recipes without a helper end with.
var errStale = errors.New("stale")

// statements takes a block apart that is one transaction, without its first and last statement.
func statements(t *testing.T, block string) []string {
	t.Helper()
	var all []string
	for line := range strings.Lines(block) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "--") {
			all = append(all, strings.TrimSuffix(line, ";"))
		}
	}
	if len(all) != 4 || all[0] != "BEGIN" || all[3] != "COMMIT" {
		t.Fatalf("the block is not a transaction of two statements: %q", all)
	}
	return all[1:3]
}

// reports is the table of the recipes, and how one of them writes to it. within, unless it is nil, is called in the transaction after
// the token was compared.
type reports struct {
	*sql.DB
	write func(ctx context.Context, token string, total string, within func()) error
}

// openReports runs the blocks as they stand on the page.
func openReports(t *testing.T, setup ...string) *reports {
	t.Helper()
	r := &reports{DB: openPostgres(t)}
	exec(t, r.DB, "CREATE TABLE reports (month text, total int)", "INSERT INTO reports VALUES ('2026-11', 0), ('2026-12', 0)")
	for _, mark := range setup {
		exec(t, r.DB, recipe(t, mark))
	}
	return r
}

func (r *reports) total(t *testing.T) (total int) {
	t.Helper()
	ok(t, r.QueryRowContext(t.Context(), "SELECT total FROM reports WHERE month = '2026-11'").Scan(&total))
	return total
}

// inTx runs steps in a transaction.
func (r *reports) inTx(ctx context.Context, steps ...func(tx *sql.Tx) error) error {
	tx, err := r.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	for _, step := range steps {
		if err := step(tx); err != nil {
			return errors.Join(err, tx.Rollback())
		}
	}
	return tx.Commit()
}

// calling makes a step of within.
func calling(within func()) func(*sql.Tx) error {
	return func(*sql.Tx) error {
		if within != nil {
			within()
		}
		return nil
	}
}

// late is the story of the page: 33 is granted, 34 is granted and writes, 33 goes on. It is told twice: once one after the
// other, and once with the transaction of 34 still open when 33 comes.
func (r *reports) late(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ok(t, r.write(ctx, "33", "100", nil))
	ok(t, r.write(ctx, "34", "200", nil))
	if err := r.write(ctx, "33", "100", nil); !errors.Is(err, errStale) {
		t.Errorf("the late writer: %v", err)
	}
	if got := r.total(t); got != 200 {
		t.Errorf("the total is %d", got)
	}
	ok(t, r.write(ctx, "34", "300", nil))

	inside, goOn, newer, older := make(chan struct{}), make(chan struct{}), make(chan error, 1), make(chan error, 1)
	go func() {
		newer <- r.write(ctx, "36", "600", func() {
			close(inside)
			<-goOn
		})
	}()
	select {
	case <-inside:
	case err := <-newer:
		t.Fatalf("the newer writer did not get through: %v", err)
	}
	go func() { older <- r.write(ctx, "35", "500", nil) }()
	r.awaitLock(t, ctx)
	close(goOn)
	ok(t, <-newer)
	if err := <-older; !errors.Is(err, errStale) {
		t.Errorf("the late writer, at the same time: %v", err)
	}
	if got := r.total(t); got != 600 {
		t.Errorf("the total is %d", got)
	}
}

// awaitLock returns when a connection of this test waits for a lock in the database.
func (r *reports) awaitLock(t *testing.T, ctx context.Context) {
	t.Helper()
	const query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = current_setting('application_name')"
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		var n int
		if err := r.QueryRowContext(ctx, query).Scan(&n); err != nil {
			t.Fatalf("the older writer did not have to wait: %v", err)
		}
		if n > 0 {
			return
		}
		<-tick.C
	}
}

func TestRecipeFenceTable(t *testing.T) {
	t.Parallel()
	r := openReports(t, "postgresql fence")
	write := statements(t, recipe(t, "postgresql write"))
	r.write = func(ctx context.Context, token, total string, within func()) error {
		return r.inTx(ctx, func(tx *sql.Tx) error {
			res, err := tx.ExecContext(ctx, write[0], token)
			if err != nil {
				return err
			}
			if n, err := res.RowsAffected(); n == 0 {
				return errors.Join(errStale, err)
			}
			return nil
		}, calling(within), func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, strings.Replace(write[1], "200", total, 1))
			return err
		})
	}
	r.late(t)
}

func TestRecipeTrigger(t *testing.T) {
	t.Parallel()
	r := openReports(t, "postgresql fence", "postgresql trigger")
	write := statements(t, recipe(t, "postgresql triggered"))
	ofState := func(err error) error {
		if e := (*pgconn.PgError)(nil); errors.As(err, &e) && e.Code == "DD001" {
			return errors.Join(errStale, err)
		}
		return err
	}
	r.write = func(ctx context.Context, token, total string, within func()) error {
		return r.inTx(ctx, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, strings.Replace(write[0], "34", token, 1))
			return err
		}, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, strings.Replace(write[1], "200", total, 1))
			return ofState(err)
		}, calling(within))
	}
	r.late(t)

	for _, write := range []string{"UPDATE reports SET total = 0", "DELETE FROM reports", "INSERT INTO reports VALUES ('x', 1)", "TRUNCATE reports"} {
		_, err := r.ExecContext(t.Context(), write)
		if e := (*pgconn.PgError)(nil); !errors.As(err, &e) || e.Code != "DD000" {
			t.Errorf("%s, without a token: %v", write, err)
		}
	}
	if got := r.total(t); got != 600 {
		t.Errorf("the total is %d", got)
	}
}

func TestRecipeRow(t *testing.T) {
	t.Parallel()
	db := openPostgres(t)
	exec(t, db, "CREATE TABLE accounts (id int PRIMARY KEY, balance int, token bigint NOT NULL DEFAULT 0)", "INSERT INTO accounts VALUES (7, 0), (8, 0)")
	write := recipe(t, "postgresql row")
	for _, w := range []struct{ token, id, balance, rows int }{
		{33, 7, 100, 1},
		{34, 7, 200, 1},
		{33, 7, 100, 0},
		{34, 7, 300, 1},
		{33, 8, 1, 1}, // what the page warns of: 34 has not written this row
	} {
		res, err := db.ExecContext(t.Context(), write, w.token, w.id, w.balance)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := res.RowsAffected(); err != nil || int(n) != w.rows {
			t.Errorf("%+v: %d rows, %v", w, n, err)
		}
	}
	var balance int
	ok(t, db.QueryRowContext(t.Context(), "SELECT balance FROM accounts WHERE id = 7").Scan(&balance))
	if balance != 300 {
		t.Errorf("the balance is %d", balance)
	}
}
