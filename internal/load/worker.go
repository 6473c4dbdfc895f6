package load

import (
	"context"
	"time"
)

// worker is one connection and who uses it. It belongs to one goroutine at a time.
type worker struct {
	run      *run
	id       int
	at       int // the endpoint
	dialects []*dialect
	conn     *Conn // nil: not connected
	used     time.Time
	out      []byte
	keys     uint64 // so many were made
	given    [keyLength]byte
	unsure   []claim // what may be held though nobody wants it
	pause    time.Duration
}

// claim is a key of a lock: a hold or a place.
type claim struct{ name, key uint64 }

// After a failure a worker rests, longer each time, so that a server in trouble is not met by a storm.
const (
	firstPause = 5 * time.Millisecond
	longPause  = 250 * time.Millisecond
)

// idle is how long a connection may be unused before a new one is opened: servers close theirs after a minute or so.
const idle = 30 * time.Second

// newKey returns the number of a key that nobody has used.
func (w *worker) newKey() uint64 {
	w.keys++
	return uint64(w.id)<<40 | w.keys
}

// ready connects if need be, and returns what writes requests to that endpoint.
func (w *worker) ready() (*dialect, error) {
	if w.conn != nil && time.Since(w.used) > idle {
		w.hangUp()
	}
	if w.conn == nil {
		conn, err := w.run.plan.Endpoints[w.at].Dial(w.run.life.Load(), w.run.plan.Timeout)
		if err != nil {
			w.at = (w.at + 1) % len(w.dialects)
			return nil, err
		}
		w.conn, w.used = conn, time.Now()
	}
	return w.dialects[w.at], nil
}

func (w *worker) hangUp() {
	if w.conn != nil {
		w.conn.Close()
		w.conn = nil
	}
}

// exchange sends what is in w.out and returns the answer.
func (w *worker) exchange(forever bool) (Answer, error) {
	err := w.conn.Send(w.out)
	if err != nil {
		return Answer{}, w.broke(err)
	}
	return w.receive(forever)
}

func (w *worker) receive(forever bool) (Answer, error) {
	a, err := w.conn.Receive(forever)
	if err != nil {
		return a, w.broke(err)
	}
	w.used = time.Now()
	if a.last {
		w.hangUp()
	}
	return a, nil
}

// broke gives the connection up; the next one goes to the next endpoint.
func (w *worker) broke(err error) error {
	w.hangUp()
	w.at = (w.at + 1) % len(w.dialects)
	return err
}

// acquire asks for a lock. It returns why not, or "".
func (w *worker) acquire(c claim, wait string) string {
	d, err := w.ready()
	if err != nil {
		return failure(err)
	}
	w.out = d.acquire(w.out[:0], c.name, c.key, wait)
	a, err := w.exchange(wait != "")
	return w.granted(d, c, &a, err)
}

// granted looks at the answer to an acquire.
func (w *worker) granted(d *dialect, c claim, a *Answer, err error) string {
	if err != nil {
		w.doubt(c)
		return failure(err)
	}
	given, code := d.granted(a)
	if code != "" {
		if a.Status >= 500 {
			w.doubt(c)
		}
		return code
	}
	copy(w.given[:], given)
	return ""
}

// release gives up what the key holds or waits for. It returns why not, or "".
func (w *worker) release(c claim) string {
	d, err := w.ready()
	if err != nil {
		w.doubt(c)
		return failure(err)
	}
	w.out = d.release(w.out[:0], c.name, c.key, w.given[:])
	a, err := w.exchange(false)
	if err != nil {
		w.doubt(c)
		return failure(err)
	}
	code := d.done(&a)
	if a.Status >= 429 {
		w.doubt(c)
	}
	return code
}

// renew starts the lifetime of a hold anew. It returns why not, or "".
func (w *worker) renew(c claim) string {
	d, err := w.ready()
	if err != nil {
		return failure(err)
	}
	w.out = d.renew(w.out[:0], c.name, c.key)
	a, err := w.exchange(false)
	if err != nil {
		return failure(err)
	}
	return d.done(&a)
}

// doubt remembers what is to be given up as soon as the server can be reached. Through the seed interface nobody knows the
// key: there the server takes back what it could not deliver.
func (w *worker) doubt(c claim) {
	if w.run.plan.Interface == V1 {
		w.unsure = append(w.unsure, c)
	}
}

// settle gives up what is in doubt, as far as the server can be reached.
func (w *worker) settle() {
	for len(w.unsure) > 0 {
		c := w.unsure[len(w.unsure)-1]
		w.unsure = w.unsure[:len(w.unsure)-1]
		if before := len(w.unsure); w.release(c) != "" && len(w.unsure) > before {
			return // in doubt again
		}
	}
}

// failed counts a failure and rests.
func (w *worker) failed(ctx context.Context, rec *recorder, code string) {
	rec.failed(w.id, code)
	w.pause = min(max(2*w.pause, firstPause), longPause)
	if sleep(ctx, w.pause) {
		w.settle()
	}
}

// settleAll gives up, once more, what is in doubt, and returns how much still is. It closes all connections.
func (r *run) settleAll() (left int) {
	limit := time.AfterFunc(r.plan.Timeout, r.cut)
	defer limit.Stop()
	for _, w := range r.workers {
		for range r.plan.Endpoints {
			w.settle()
		}
		w.hangUp()
		left += len(w.unsure)
	}
	return left
}
