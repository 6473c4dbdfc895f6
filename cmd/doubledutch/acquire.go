package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/user"
	"time"

	"github.com/alecthomas/kong"

	"github.com/doubledutch-lock/doubledutch/cmd/doubledutch/exitcode"
)

// acquireCmd takes a lock, or waits for it.
type acquireCmd struct {
	Name      string   `arg:"" help:"Name of the lock, or names with commas between them: all of them or none."`
	OneName   bool     `help:"The name is one name, also with a comma in it."`
	TTL       lifetime `name:"ttl" placeholder:"DURATION" help:"How long the lock is held unless renewed (the server's default: 30s)."`
	Wait      waiting  `placeholder:"DURATION" help:"How long to wait in the queue; \"forever\" for as long as it takes. Without it: try once."`
	Mode      string   `enum:"exclusive,shared" default:"exclusive" help:"exclusive (one holder) or shared (many readers)."`
	Shared    bool     `short:"s" help:"Short for --mode=shared."`
	Exclusive bool     `short:"x" help:"Short for --mode=exclusive."`
	Slots     uint32   `placeholder:"N" help:"Use the lock as a semaphore that N holders can have at once."`
	Key       secret   `env:"DOUBLEDUTCH_ACQUIRE_KEY" placeholder:"KEY" help:"Key to hold the lock by, 32 letters and digits; made at random if not given. Asking again with the same key is harmless."`
	Session   secret   `placeholder:"ID" help:"Session that is to hold the lock."`
	Owner     string   `placeholder:"TEXT" help:"Who holds the lock, for others to see (default: user@host)."`
	Metadata  string   `placeholder:"TEXT" help:"Anything else that others should see."`
	LockDelay seconds  `placeholder:"DURATION" help:"If the hold expires, how long the lock stays blocked."`
	clientFlags
}

// Help shows how a script uses it.
func (*acquireCmd) Help() string {
	return `The key goes to standard output, everything else to standard error. Whoever has the key can renew and release.
If the lock is held, the exit code is 3. An acquire that is interrupted gives up its place in the queue.

Examples:

    KEY=$(doubledutch acquire backups) || exit
    KEY=$(doubledutch acquire --wait 5m --ttl 1m --metadata "nightly run" backups)
    doubledutch acquire -s --wait forever catalogue
    doubledutch acquire --slots 3 --json licences
    KEY=$(doubledutch acquire --wait 10s accounts/alice,accounts/bob)

The key of several locks renews and releases all of them, under any of their names.`
}

// AfterApply settles which way of giving the mode counts.
func (a *acquireCmd) AfterApply(ctx *kong.Context) error {
	if err := newSources(ctx).settle("mode", "shared", "exclusive"); err != nil {
		return err
	}
	if err := a.apiKey.AfterApply(ctx); err != nil { // which this method hides from the parser
		return err
	}
	switch {
	case a.Shared:
		a.Mode = "shared"
	case a.Exclusive:
		a.Mode = "exclusive"
	}
	if a.Slots > 0 && a.Mode == "shared" {
		return errors.New("--slots and --shared contradict each other: a semaphore has no readers")
	}
	return nil
}

// acquireBody is what the server is asked for.
type acquireBody struct {
	Names     []setNameBody `json:"names,omitempty"`
	TTL       float64       `json:"ttl,omitempty"`
	Wait      float64       `json:"wait,omitempty"`
	Key       string        `json:"key"`
	Mode      string        `json:"mode,omitempty"`
	Slots     uint32        `json:"slots,omitempty"`
	Session   string        `json:"session,omitempty"`
	Owner     string        `json:"owner,omitempty"`
	Metadata  string        `json:"metadata,omitempty"`
	LockDelay float64       `json:"lock_delay,omitempty"`
}

// grantAnswer is what the server says of a grant.
type grantAnswer struct {
	Name      string  `json:"name"` // empty for a set
	Key       string  `json:"key"`
	Token     uint64  `json:"token"`
	ExpiresIn float64 `json:"expires_in"`
	Mode      string  `json:"mode"`
	Waited    float64 `json:"waited"`
}

// Run acquires the lock and prints its key.
func (a *acquireCmd) Run(c *console) error {
	to, err := newGoal(a.Name, a.OneName)
	if err != nil {
		return err
	}
	outlivePipes() // if nobody reads the key, the lock is to be released
	return a.run(c, func(ctx context.Context, server *client) error {
		body := a.body()
		body.spread(to.names)
		got, err := a.acquire(ctx, server, to, body)
		if err != nil {
			return err
		}
		if err := a.print(c, got.body); err != nil {
			return a.takeBack(server, to.release, body.Key, err)
		}
		return nil
	})
}

// acquire asks until the lock is granted or refused, or the wait has run out. Each time it asks with the same key, so
// that after a lost connection or a restart of the server it finds its place or its grant again.
func (a *acquireCmd) acquire(ctx context.Context, server *client, to *goal, body *acquireBody) (*answer, error) {
	started := time.Now()
	reached := started
	for {
		body.Wait = a.remaining(time.Since(started))
		got, err := server.do(ctx, request{method: http.MethodPost, path: to.path, body: body, wait: time.Duration(a.Wait)})
		if err == nil {
			return got, nil
		}
		if !a.worthAnotherTry(err, started, reached, server.timeout) {
			a.giveUp(server, to.release, body.Key, err)
			return nil, err
		}
		if answered(err) {
			reached = time.Now()
		}
		if err := pause(ctx, retryPause); err != nil {
			a.giveUp(server, to.release, body.Key, err)
			return nil, err
		}
	}
}

// retryPause is the time between two tries of a waiting acquire whose connection was lost.
const retryPause = 250 * time.Millisecond

// body is the request of the first try.
func (a *acquireCmd) body() *acquireBody {
	b := &acquireBody{
		TTL: a.TTL.json(), Key: a.Key.reveal(), Mode: a.Mode, Slots: a.Slots, Session: a.Session.reveal(),
		Owner: a.Owner, Metadata: a.Metadata, LockDelay: a.LockDelay.json(),
	}
	if b.Key == "" {
		b.Key = newKey()
	}
	if b.Owner == "" {
		b.Owner = defaultOwner()
	}
	if b.Slots > 0 {
		b.Mode = "" // permits have no mode
	}
	return b
}

// remaining is what is left of the wait, in seconds.
func (a *acquireCmd) remaining(spent time.Duration) float64 {
	if a.Wait <= 0 {
		return float64(a.Wait) // none, or -1 for as long as it takes
	}
	return max(time.Duration(a.Wait)-spent, time.Millisecond).Seconds()
}

// worthAnotherTry tells whether a waiting acquire goes on after err: the server had been reached, went away, and has not
// been away for longer than the time-out.
func (a *acquireCmd) worthAnotherTry(err error, started, reached time.Time, timeout time.Duration) bool {
	if a.Wait == 0 || exitcode.Of(err) != exitcode.Unavailable {
		return false
	}
	if a.Wait > 0 && time.Since(started) >= time.Duration(a.Wait) {
		return false
	}
	var lost *unreachableError
	if errors.As(err, &lost) && lost.refused && reached.Equal(started) {
		return false // there is no server at all
	}
	return time.Since(reached) < timeout || answered(err)
}

// answered tells whether err shows that a server was there, be it only by breaking a connection.
func answered(err error) bool {
	var lost *unreachableError
	return !errors.As(err, &lost) || !lost.refused
}

// giveUp takes the acquire back when nobody knows what came of it, so that no key that nobody has holds the lock. A key
// that the caller brought stays: they can ask again with it.
func (a *acquireCmd) giveUp(server *client, path, key string, err error) {
	var p *problem
	var lost *unreachableError
	refused := errors.As(err, &p) && exitcode.Of(err) != exitcode.Unavailable
	if a.Key != "" || refused || errors.As(err, &lost) && lost.refused {
		return
	}
	_ = release(server, path, key)
}

// takeBack releases a lock whose key could not be printed for err, so that it is not held by a key that nobody has, and
// says so. A key that the caller brought keeps its hold.
func (a *acquireCmd) takeBack(server *client, path, key string, err error) error {
	if a.Key != "" {
		return err
	}
	if failed := release(server, path, key); failed != nil {
		return fmt.Errorf("%w; the lock stays held until it expires, for it could not be released: %s", err, failed.Error())
	}
	return fmt.Errorf("%w; the lock is released again", err)
}

// release gives up what key stands for, whatever else has been interrupted.
func release(server *client, path, key string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_, err := server.do(ctx, request{method: http.MethodDelete, path: path, lockKey: key})
	return err
}

// pause waits for d, or returns the error with which an interrupted verb ends.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return exitcode.With(exitcode.Interrupted, errors.New("interrupted"))
	}
}

// print prints the key for a script and the rest for a person, or everything as JSON.
func (a *acquireCmd) print(c *console, raw []byte) error {
	if a.JSON {
		return printRaw(c.out, raw)
	}
	var g grantAnswer
	if err := decode(raw, &g); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(c.out, g.Key); err != nil {
		return fmt.Errorf("cannot print the key: %w", err)
	}
	text := fmt.Sprintf("acquired %q: token %d, expires in %s", a.Name, g.Token, ago(g.ExpiresIn))
	if g.Waited > 0 {
		text += ", waited " + ago(g.Waited)
	}
	_, _ = fmt.Fprintln(c.err, text) // whoever has the key has what matters
	return nil
}

// defaultOwner is user@host, as far as they are known.
func defaultOwner() string {
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	host, err := os.Hostname()
	if err != nil {
		return name
	}
	return name + "@" + host
}

// newKey returns 32 characters of [0-9A-Za-z] from the system's cryptographic source, each as likely as the others.
func newKey() string {
	const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	key := make([]byte, 0, 32)
	var buf [64]byte
	for {
		_, _ = rand.Read(buf[:]) // never fails
		for _, b := range buf {
			if int(b) >= 256-256%len(alphabet) {
				continue
			}
			if key = append(key, alphabet[int(b)%len(alphabet)]); len(key) == cap(key) {
				return string(key)
			}
		}
	}
}
