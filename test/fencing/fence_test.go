package fencing

import (
	"context"
	"database/sql"
	"errors"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/doubledutch-lock/doubledutch/client/fence"
)

// databases are those that the package fence knows.
var databases = []struct {
	name  string
	fence fence.Fence
	open  func(t *testing.T) *sql.DB
	mark  func(n int) string // a parameter
	id    string             // a column that counts
}{
	{"PostgreSQL", fence.PostgreSQL, openPostgres, func(n int) string { return "$" + strconv.Itoa(n) }, "id serial PRIMARY KEY"},
	{"MariaDB", fence.MySQL, openMariaDB, func(int) string { return "?" }, "id INTEGER AUTO_INCREMENT PRIMARY KEY"},
	{"SQLite", fence.SQLite, openSQLite, func(int) string { return "?" }, "id INTEGER PRIMARY KEY AUTOINCREMENT"},
}

// store is a register in a database, behind a fence, that remembers every write to it.
type store struct {
	*sql.DB
	fence  fence.Fence
	insert string
}

// onEach runs a test on each database.
func onEach(t *testing.T, test func(t *testing.T, s *store)) {
	for _, d := range databases {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			s := &store{d.open(t), d.fence, "INSERT INTO writes (token, value) VALUES (" + d.mark(1) + ", " + d.mark(2) + ")"}
			for range 2 { // the second changes nothing
				if err := s.fence.Create(t.Context(), s.DB); err != nil {
					t.Fatal(err)
				}
			}
			exec(t, s.DB, "CREATE TABLE writes ("+d.id+", token BIGINT NOT NULL, value VARCHAR(100) NOT NULL)")
			test(t, s)
		})
	}
}

// write writes value through the fence.
func (s *store) write(ctx context.Context, resource string, token uint64, value string) error {
	return s.fence.Tx(ctx, s.DB, resource, token, s.inserting(ctx, token, value))
}

func (s *store) inserting(ctx context.Context, token uint64, value string) func(*sql.Tx) error {
	return func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, s.insert, int64(token), value)
		return err
	}
}

// values returns what was written, in order.
func (s *store) values(t *testing.T) (values string, tokens []uint64) {
	t.Helper()
	rows, err := s.QueryContext(t.Context(), "SELECT token, value FROM writes ORDER BY id")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	var all []string
	for rows.Next() {
		var token int64
		var value string
		if err := rows.Scan(&token, &value); err != nil {
			t.Fatal(err)
		}
		all, tokens = append(all, value), append(tokens, uint64(token))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return strings.Join(all, " "), tokens
}

func (s *store) want(t *testing.T, want string) {
	t.Helper()
	if got, _ := s.values(t); got != want {
		t.Errorf("written is %q, want %q", got, want)
	}
}

func isStale(t *testing.T, err error, newest uint64) {
	t.Helper()
	var stale *fence.StaleError
	if !errors.Is(err, fence.ErrStale) || !errors.As(err, &stale) || stale.Newest != newest {
		t.Errorf("got %v, want a stale token and %d as the newest", err, newest)
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}

func TestOlderTokenIsRefused(t *testing.T) {
	onEach(t, func(t *testing.T, s *store) {
		ctx := t.Context()
		ok(t, s.write(ctx, "r", 33, "a"))
		ok(t, s.write(ctx, "r", 33, "b"))
		ok(t, s.write(ctx, "r", 34, "c"))
		isStale(t, s.write(ctx, "r", 33, "late"), 34)
		ok(t, s.write(ctx, "r", 34, "d"))
		ok(t, s.write(ctx, "other", 1, "e"))
		ok(t, s.fence.Advance(ctx, s.DB, "r", 1<<53-1))
		isStale(t, s.write(ctx, "r", 34, "late"), 1<<53-1)
		s.want(t, "a b c d e")
	})
}

// Names are told apart byte by byte, however the database compares text.
func TestResourcesAreToldApart(t *testing.T) {
	onEach(t, func(t *testing.T, s *store) {
		names := []string{"a", "A", "a ", " a", "á", "a\u0301", "a/b", "a'b", `a"b\`, "%", "ß", "ss", strings.Repeat("x", 512), strings.Repeat("x", 511)}
		for i, name := range names {
			if err := s.write(t.Context(), name, uint64(len(names)-i), strconv.Itoa(i)); err != nil {
				t.Errorf("%q: %v", name, err)
			}
		}
	})
}

func TestNothingIsWrittenAfterAnError(t *testing.T) {
	onEach(t, func(t *testing.T, s *store) {
		ctx, mine := t.Context(), errors.New("mine")
		err := s.fence.Tx(ctx, s.DB, "r", 50, func(tx *sql.Tx) error {
			return errors.Join(s.inserting(ctx, 50, "a")(tx), mine)
		})
		if !errors.Is(err, mine) {
			t.Errorf("got %v", err)
		}
		s.want(t, "")
		ok(t, s.write(ctx, "r", 1, "b")) // the token 50 has not been seen either

		func() {
			defer func() { _ = recover() }()
			_ = s.fence.Tx(ctx, s.DB, "r", 51, func(*sql.Tx) error { panic("as a program does") })
		}()
		ok(t, s.write(ctx, "r", 1, "c"))
		s.want(t, "b c")
		for _, bad := range []uint64{0, 1 << 53, 1<<64 - 1} {
			if err := s.write(ctx, "r", bad, "d"); err == nil || errors.Is(err, fence.ErrStale) {
				t.Errorf("token %d: %v", bad, err)
			}
		}
		s.want(t, "b c")
	})
}

// meet begins a transaction with the token first, and one with the token second while it lasts. It returns their errors.
func meet(t *testing.T, s *store, first, second uint64, end error) (err1, err2 error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	inside, goOn, came := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		<-inside
		came <- s.write(ctx, "r", second, "second")
	}()
	err1 = s.fence.Tx(ctx, s.DB, "r", first, func(tx *sql.Tx) error {
		close(inside)
		go func() {
			// As long as the first is inside, the second gets nowhere.
			select {
			case err := <-came:
				t.Errorf("the second did not wait: %v", err)
				came <- err
			case <-time.After(100 * time.Millisecond):
			}
			close(goOn)
		}()
		<-goOn
		return errors.Join(s.inserting(ctx, first, "first")(tx), end)
	})
	return err1, <-came
}

func TestConcurrentTransactions(t *testing.T) {
	failed := errors.New("failed")
	for name, c := range map[string]struct {
		first, second uint64
		end           error
		stale         bool
		want          string
	}{
		"the older is first":                 {33, 34, nil, false, "first second"},
		"the newer is first":                 {34, 33, nil, true, "first"},
		"the newer is first and rolled back": {34, 33, failed, false, "second"},
		"the same holder":                    {33, 33, nil, false, "first second"},
	} {
		t.Run(name, func(t *testing.T) {
			onEach(t, func(t *testing.T, s *store) {
				ok(t, s.fence.Advance(t.Context(), s.DB, "r", 1)) // otherwise they would meet at the insertion of the row
				err1, err2 := meet(t, s, c.first, c.second, c.end)
				if !errors.Is(err1, c.end) {
					t.Errorf("the first: %v", err1)
				}
				if c.stale {
					isStale(t, err2, c.first)
				} else {
					ok(t, err2)
				}
				s.want(t, c.want)
			})
		})
		t.Run(name+", for the first time", func(t *testing.T) {
			onEach(t, func(t *testing.T, s *store) {
				_, err2 := meet(t, s, c.first, c.second, c.end)
				if c.stale {
					isStale(t, err2, c.first)
				} else {
					ok(t, err2)
				}
				s.want(t, c.want)
			})
		})
	}
}

// A transaction that began to read before the newer holder came does not get through either, whatever it saw.
func TestOldSnapshotsAreRefused(t *testing.T) {
	onEach(t, func(t *testing.T, s *store) {
		ctx := t.Context()
		for i, level := range []sql.IsolationLevel{sql.LevelReadCommitted, sql.LevelRepeatableRead, sql.LevelSerializable} {
			if s.fence == fence.SQLite && level != sql.LevelSerializable {
				continue // it has no other
			}
			token := uint64(10 * (i + 1))
			ok(t, s.fence.Advance(ctx, s.DB, "r", token))
			tx, err := s.BeginTx(ctx, &sql.TxOptions{Isolation: level})
			if err != nil {
				t.Fatal(err)
			}
			var n int
			ok(t, tx.QueryRowContext(ctx, "SELECT COUNT(*) FROM writes").Scan(&n))
			ok(t, rollBackOn(tx, func() error { return s.fence.Advance(ctx, s.DB, "r", token+1) }))
			if err := s.fence.Take(ctx, tx, "r", token); err == nil {
				t.Errorf("%v: an older token got through", level)
			}
			_ = tx.Rollback()
		}
	})
}

// rollBackOn rolls tx back if f fails or cannot go on because of it.
func rollBackOn(tx *sql.Tx, f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-time.After(patience / 2):
		return errors.Join(errors.New("the newer holder had to wait for a transaction that only reads"), tx.Rollback(), <-done)
	}
}

// Many writers with many tokens: in the order of the writes no token is older than one before it.
func TestStorm(t *testing.T) {
	onEach(t, func(t *testing.T, s *store) {
		const writers, each, grants = 6, 25, 40
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		var all sync.WaitGroup
		for w := range writers {
			all.Go(func() {
				random := rand.New(rand.NewPCG(uint64(w), 1))
				for range each {
					token := 1 + random.Uint64N(grants)
					if err := s.write(ctx, "r", token, "x"); err != nil && !errors.Is(err, fence.ErrStale) {
						t.Errorf("token %d: %v", token, err)
					}
				}
			})
		}
		all.Wait()
		_, tokens := s.values(t)
		var newest uint64
		for i, token := range tokens {
			if token < newest {
				t.Errorf("write %d has token %d, after %d", i, token, newest)
			}
			newest = token
		}
		if len(tokens) == 0 || len(tokens) == writers*each {
			t.Errorf("%d of %d writes got through", len(tokens), writers*each)
		}
	})
}
