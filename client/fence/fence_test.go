package fence_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/doubledutch-lock/doubledutch/client/fence"
)

// Real databases are asked in test/fencing. Here is shown in which order a database is asked, and what becomes of its errors.

// script is a database that does as it is told, and writes down what it is asked.
type script struct {
	newest int64  // what the fence remembers
	fail   string // the step that fails
	steps  []string
	keys   []any // how the resource was given
}

var errScript = errors.New("the database has failed")

func (s *script) step(name string) error {
	s.steps = append(s.steps, name)
	if name == s.fail {
		return errScript
	}
	return nil
}

func (s *script) Connect(context.Context) (driver.Conn, error) { return s, nil }
func (s *script) Driver() driver.Driver                        { return nil }
func (s *script) Prepare(string) (driver.Stmt, error)          { return nil, errors.ErrUnsupported }
func (s *script) Close() error                                 { return nil }
func (s *script) Begin() (driver.Tx, error)                    { return s, s.step("begin") }
func (s *script) Commit() error                                { return s.step("commit") }
func (s *script) Rollback() error                              { return s.step("rollback") }

func (s *script) ExecContext(_ context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	step := strings.Fields(query)[0]
	if strings.Contains(query, "fence") && step == "INSERT" {
		step = "raise"
		s.keys = append(s.keys, args[0].Value)
		s.newest = max(s.newest, args[1].Value.(int64))
	}
	return driver.RowsAffected(1), s.step(step)
}

func (s *script) QueryContext(_ context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	s.keys = append(s.keys, args[0].Value)
	return &row{value: s.newest}, s.step("read")
}

type row struct {
	value int64
	read  bool
}

func (*row) Columns() []string { return []string{"token"} }
func (*row) Close() error      { return nil }

func (r *row) Next(dest []driver.Value) error {
	if r.read {
		return io.EOF
	}
	dest[0], r.read = r.value, true
	return nil
}

func (s *script) want(t *testing.T, steps string) {
	t.Helper()
	if got := strings.Join(s.steps, " "); got != steps {
		t.Errorf("the database was asked to %s, want %s", got, steps)
	}
}

func open(t *testing.T, s *script) *sql.DB {
	t.Helper()
	db := sql.OpenDB(s)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func update(ctx context.Context) func(*sql.Tx) error {
	return func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "UPDATE reports SET total = 1")
		return err
	}
}

func TestTx(t *testing.T) {
	s := &script{newest: 33}
	if err := fence.Tx(t.Context(), open(t, s), "reports", 34, update(t.Context())); err != nil {
		t.Error(err)
	}
	s.want(t, "begin raise read UPDATE commit")
}

func TestTxWithAStaleToken(t *testing.T) {
	s := &script{newest: 34}
	err := fence.Tx(t.Context(), open(t, s), "reports", 33, update(t.Context()))
	if !errors.Is(err, fence.ErrStale) || err.Error() != `fence "reports": token 33 is stale, the newest is 34` {
		t.Errorf("got %v", err)
	}
	s.want(t, "begin raise read rollback")
}

func TestFailuresOfTheDatabase(t *testing.T) {
	for fail, steps := range map[string]string{
		"begin":  "begin",
		"raise":  "begin raise rollback",
		"read":   "begin raise read rollback",
		"UPDATE": "begin raise read UPDATE rollback",
		"commit": "begin raise read UPDATE commit",
	} {
		s := &script{fail: fail}
		err := fence.Tx(t.Context(), open(t, s), "reports", 1, update(t.Context()))
		if !errors.Is(err, errScript) || errors.Is(err, fence.ErrStale) {
			t.Errorf("%s fails: %v", fail, err)
		}
		s.want(t, steps)
	}
}

func TestAdvance(t *testing.T) {
	s := &script{}
	if err := fence.Advance(t.Context(), open(t, s), "reports", 7); err != nil || s.newest != 7 {
		t.Errorf("got %v, the newest is %d", err, s.newest)
	}
	s.want(t, "begin raise read commit")
}

func TestTables(t *testing.T) {
	for _, f := range []fence.Fence{fence.PostgreSQL, fence.MySQL, fence.SQLite} {
		if s := f.Schema(); !strings.HasPrefix(s, "CREATE TABLE IF NOT EXISTS doubledutch_fence (") {
			t.Errorf("the schema is %s", s)
		}
		f = f.In("app.fence")
		if s := f.Schema(); !strings.HasPrefix(s, "CREATE TABLE IF NOT EXISTS app.fence (") {
			t.Errorf("the schema is %s", s)
		}
		s := &script{}
		if err := f.Create(t.Context(), open(t, s)); err != nil {
			t.Error(err)
		}
		s.fail = "CREATE"
		if err := f.Create(t.Context(), open(t, s)); !errors.Is(err, errScript) {
			t.Errorf("got %v", err)
		}
		if err := f.Tx(t.Context(), open(t, s), "r", 1, func(*sql.Tx) error { return nil }); err != nil {
			t.Error(err)
		}
		_, bytes := s.keys[0].([]byte)
		if wantBytes := f == fence.MySQL.In("app.fence"); bytes != wantBytes {
			t.Errorf("the resource was given as %T", s.keys[0])
		}
	}
	s := &script{}
	if err := fence.Create(t.Context(), open(t, s)); err != nil {
		t.Error(err)
	}
	s.want(t, "CREATE")
}

func TestNoTokens(t *testing.T) {
	for _, token := range []uint64{0, 1 << 53, 1 << 63} {
		s := &script{}
		err := fence.Advance(t.Context(), open(t, s), "r", token)
		if err == nil || errors.Is(err, fence.ErrStale) {
			t.Errorf("%d: %v", token, err)
		}
		if slices.Contains(s.steps, "raise") {
			t.Errorf("%d was remembered", token)
		}
	}
}
