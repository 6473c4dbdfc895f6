// Package fence keeps late writers out of a SQL database.
//
// A lock alone cannot: its holder may be suspended, lose the lock without noticing, and write when somebody else holds it. So every
// write says with which fencing token its writer was granted the lock, and the database remembers, in a table of its own, the
// newest token that it has seen for each resource. Who comes with an older one is refused with [ErrStale]. Because the comparison and the
// write are one transaction, nothing fits in between:
//
//	err := fence.Tx(ctx, db, "reports", lease.Token(), func(tx *sql.Tx) error {
//		_, err := tx.ExecContext(ctx, "UPDATE reports SET total = $1 WHERE month = $2", total, month)
//		return err
//	})
//	if errors.Is(err, fence.ErrStale) {
//		return // somebody else has the lock; nothing was written
//	}
//
// What is guaranteed: when a transaction with a token has been committed, none with an older token for that resource is
// committed any more, in whatever order they began. Transactions of one resource run one after the other; those of different
// resources do not see each other.
//
// What is asked in return:
//
//   - Everybody who writes what the lock protects does it through the fence, under the same name of the resource.
//   - What a decision is based on is read in the same transaction, too; or the token is made known with [Fence.Advance] before it is
//     read. A fence knows nothing of a new holder that has not come yet: until then the old one still gets through.
//   - The lock is exclusive. Of several holders at a time (shared locks, semaphores) only the newest would get through.
//
// [PostgreSQL], [MySQL] (and MariaDB) and [SQLite] are told apart by the Fence; [Tx], [Advance] and [Create] are those of PostgreSQL. The
// table is made by Create, or by a migration of your own from [Fence.Schema].
package fence

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// ErrStale says that the resource has seen a newer token: somebody else was granted the lock since. Nothing was written.
var ErrStale = errors.New("the fencing token is stale")

// StaleError is the error behind ErrStale.
type StaleError struct {
	Resource string
	// Token is the one that was refused, Newest the one that the resource has seen.
	Token, Newest uint64
}

func (e *StaleError) Error() string {
	return fmt.Sprintf("fence %q: token %d is stale, the newest is %d", e.Resource, e.Token, e.Newest)
}

// Is makes errors.Is(err, ErrStale) true.
func (e *StaleError) Is(target error) bool { return target == ErrStale }

// DB is what begins a transaction: *sql.DB or *sql.Conn.
type DB interface {
	BeginTx(ctx context.Context, opts *sql.TxOptions) (*sql.Tx, error)
}

// maxToken is the greatest token that DoubleDutch gives out.
const maxToken = 1<<53 - 1

// Fence says in which table of which kind of database tokens are kept. It can be copied and used by any number of goroutines.
type Fence struct {
	dialect *dialect
	table   string
}

// The kinds of databases. The table is doubledutch_fence; [Fence.In] names another one.
var (
	PostgreSQL = Fence{&postgres, defaultTable}
	MySQL      = Fence{&mysql, defaultTable}
	SQLite     = Fence{&sqlite, defaultTable}
)

const defaultTable = "doubledutch_fence"

// In returns the Fence that keeps its tokens in another table. The name is put into SQL as it is, with schema and quotes where it needs
// them; it must not come from outside.
func (f Fence) In(table string) Fence {
	f.table = table
	return f
}

// Schema returns the statement that creates the table if it is not there.
func (f Fence) Schema() string { return fmt.Sprintf(f.dialect.schema, f.table) }

// Create creates the table if it is not there. Call it before the first transaction, not in one.
func (f Fence) Create(ctx context.Context, db *sql.DB) error {
	if _, err := db.ExecContext(ctx, f.Schema()); err != nil {
		return fmt.Errorf("fence: create the table: %w", err)
	}
	return nil
}

// Tx runs write in a transaction that is committed only if token is the newest that the resource has seen, or newer. Otherwise the
// error is a [*StaleError], and write was not called. An error of write comes back as it is. After any error nothing is written, but
// for one of the commit itself, after which nobody knows.
//
// Other transactions for the resource wait until this one has ended, so write should be brief. Errors of the database, such as one
// for a deadlock of rows, come wrapped, and say nothing of the token; the same call can be made again. With a token of 0, or one that
// no server gives out, there is an error.
func (f Fence) Tx(ctx context.Context, db DB, resource string, token uint64, write func(tx *sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("fence: begin: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // does nothing after the commit
	if err := f.Take(ctx, tx, resource, token); err != nil {
		return err
	}
	if err := write(tx); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("fence: commit: %w", err)
	}
	return nil
}

// Advance makes the token known to the resource without writing anything else, so that older ones are refused from now on. Call it
// after the grant, before reading what will be decided upon outside of Tx. Errors are those of Tx.
func (f Fence) Advance(ctx context.Context, db DB, resource string, token uint64) error {
	return f.Tx(ctx, db, resource, token, func(*sql.Tx) error { return nil })
}

// Take is the part of Tx that comes first, for transactions that somebody else begins and ends: it remembers the token, or returns a
// [*StaleError], after which the transaction must be rolled back. It must come before every other statement whose result matters.
// Where transactions are serializable or repeatable reads, one that has to wait here may fail with the database's own error for
// conflicts; then begin it again.
func (f Fence) Take(ctx context.Context, tx *sql.Tx, resource string, token uint64) error {
	if token == 0 || token > maxToken {
		return fmt.Errorf("fence %q: %d is no fencing token", resource, token)
	}
	args := f.dialect.args(f.dialect.key(resource), int64(token))
	if _, err := tx.ExecContext(ctx, fmt.Sprintf(f.dialect.raise, f.table), args...); err != nil {
		return fmt.Errorf("fence %q: %w", resource, err)
	}
	newest, err := f.newest(ctx, tx, resource)
	if err != nil {
		return fmt.Errorf("fence %q: %w", resource, err)
	}
	if newest != token {
		return &StaleError{Resource: resource, Token: token, Newest: newest}
	}
	return nil
}

// newest reads the token that the transaction has locked.
func (f Fence) newest(ctx context.Context, tx *sql.Tx, resource string) (uint64, error) {
	var newest int64
	row := tx.QueryRowContext(ctx, fmt.Sprintf(f.dialect.read, f.table), f.dialect.key(resource))
	if err := row.Scan(&newest); err != nil {
		return 0, err
	}
	return uint64(newest), nil
}

// Create is [Fence.Create] of PostgreSQL.
func Create(ctx context.Context, db *sql.DB) error { return PostgreSQL.Create(ctx, db) }

// Tx is [Fence.Tx] of PostgreSQL.
func Tx(ctx context.Context, db DB, resource string, token uint64, write func(tx *sql.Tx) error) error {
	return PostgreSQL.Tx(ctx, db, resource, token, write)
}

// Advance is [Fence.Advance] of PostgreSQL.
func Advance(ctx context.Context, db DB, resource string, token uint64) error {
	return PostgreSQL.Advance(ctx, db, resource, token)
}
