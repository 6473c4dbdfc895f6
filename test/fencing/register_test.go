package fencing

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/doubledutch-lock/doubledutch/client"
	"github.com/doubledutch-lock/doubledutch/client/ddtest"
	"github.com/doubledutch-lock/doubledutch/client/fence"
)

// register is a number in a database that clients read, increase and write back, each under a lock. When nobody writes over what
// somebody else wrote, it counts the writes.
type register struct {
	*store
	fenced bool

	mu             sync.Mutex // guards what follows
	writes, stales int
}

func openRegister(t *testing.T, s *store, fenced bool) *register {
	t.Helper()
	exec(t, s.DB, "CREATE TABLE register (value INTEGER NOT NULL)", "INSERT INTO register VALUES (0)")
	return &register{store: s, fenced: fenced}
}

// begin makes the token known before anything is read.
func (r *register) begin(ctx context.Context, token uint64) error {
	if !r.fenced {
		return nil
	}
	return r.fence.Advance(ctx, r.DB, "register", token)
}

func (r *register) read(ctx context.Context) (value int, err error) {
	err = r.QueryRowContext(ctx, "SELECT value FROM register").Scan(&value)
	return value, err
}

func (r *register) write(ctx context.Context, token uint64, value int) error {
	set := fmt.Sprintf("UPDATE register SET value = %d", value)
	var err error
	if r.fenced {
		err = r.fence.Tx(ctx, r.DB, "register", token, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, set)
			return err
		})
	} else {
		_, err = r.ExecContext(ctx, set)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err == nil:
		r.writes++
	case errors.Is(err, fence.ErrStale):
		r.stales++
		err = nil
	}
	return err
}

// increase is what each client does. In between it may stand still, and does not notice what becomes of its lock.
func (r *register) increase(ctx context.Context, c *client.Client, standStill func() error) error {
	lease, err := c.Lock(ctx, "register")
	if err != nil {
		return err
	}
	if err := r.begin(ctx, lease.Token()); err != nil {
		return err
	}
	value, err := r.read(ctx)
	if err != nil {
		return err
	}
	if err := standStill(); err != nil {
		return err
	}
	if err := r.write(ctx, lease.Token(), value+1); err != nil {
		return err
	}
	if err := lease.Unlock(ctx); err != nil && !errors.Is(err, client.ErrLost) {
		return err
	}
	return nil
}

// play lets clients increase the register, a third of them after having stood still for longer than their lease.
func (r *register) play(t *testing.T) {
	t.Helper()
	const clients, times = 4, 6
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s := ddtest.Start(t)
	connect := func() *client.Client {
		c, err := client.New(s.Endpoints())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	moving := func() error { return nil }
	frozen, finished := make(chan chan<- error), make(chan error, clients)
	standing := func() error {
		thawed := make(chan error)
		frozen <- thawed
		return <-thawed
	}
	for range clients {
		c := connect()
		go func() {
			var errs []error
			for i := range times {
				behave := moving
				if i%3 == 1 {
					behave = standing
				}
				errs = append(errs, r.increase(ctx, c, behave))
			}
			finished <- errors.Join(errs...)
		}()
	}
	other := connect()
	for left := clients; left > 0; {
		select {
		case thawed := <-frozen: // it has the lock
			s.Expire("register")
			go func() { thawed <- r.increase(ctx, other, moving) }() // it may have to wait for one that stands still, too
		case err := <-finished:
			ok(t, err)
			left--
		}
	}
	if want := clients * times / 3; r.fenced && r.stales != want {
		t.Errorf("%d late writes were refused, of %d", r.stales, want)
	}
}

// lost returns how many acknowledged writes somebody has written over without having seen them.
func (r *register) lost(t *testing.T) int {
	t.Helper()
	value, err := r.read(t.Context())
	ok(t, err)
	return r.writes - value
}

func TestFencedRegister(t *testing.T) {
	onEach(t, func(t *testing.T, s *store) {
		r := openRegister(t, s, true)
		r.play(t)
		if lost := r.lost(t); lost != 0 || r.writes == 0 {
			t.Errorf("of %d writes %d are lost", r.writes, lost)
		}
	})
}

// Without the fence the same clients write over each other, so the test above can fail.
func TestRegisterWithoutAFence(t *testing.T) {
	onEach(t, func(t *testing.T, s *store) {
		r := openRegister(t, s, false)
		r.play(t)
		if lost := r.lost(t); lost == 0 {
			t.Errorf("of %d writes none is lost, although late ones were let through", r.writes)
		}
	})
}
