package fence_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/doubledutch-lock/doubledutch/client/fence"
)

// saveTotal writes a report under a lock whose token it was given.
func saveTotal(ctx context.Context, db *sql.DB, token uint64, month string, total int) error {
	err := fence.Tx(ctx, db, "reports", token, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "UPDATE reports SET total = $1 WHERE month = $2", total, month)
		return err
	})
	if errors.Is(err, fence.ErrStale) {
		return fmt.Errorf("somebody else has the lock, nothing was written: %w", err)
	}
	return err
}

func Example() {
	ctx := context.Background()
	db := sql.OpenDB(&script{}) // for example sql.Open("pgx", "postgres://…")
	if err := fence.Create(ctx, db); err != nil {
		panic(err)
	}
	fmt.Println(saveTotal(ctx, db, 34, "2026-11", 200))
	fmt.Println(saveTotal(ctx, db, 33, "2026-11", 100))
	// Output:
	// <nil>
	// somebody else has the lock, nothing was written: fence "reports": token 33 is stale, the newest is 34
}
