//go:build linux

package torture

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"os"
	"sync"
	"time"
)

// What an op asks for.
const (
	acquire      = "acquire"
	renew        = "renew"
	release      = "release"
	read         = "read"
	openSession  = "open"
	renewSession = "keep"
	endSession   = "end"
)

// op is one request and what its client was told. Times are nanoseconds on the clock of the run.
type op struct {
	N       int     `json:"n"`
	Client  string  `json:"client"`
	Node    string  `json:"node"`
	Kind    string  `json:"kind"`
	Lock    string  `json:"lock,omitempty"`
	Key     string  `json:"key,omitempty"`   // or the id of the session
	Owner   string  `json:"owner,omitempty"` // what the key says of itself; one for each key
	Session string  `json:"session,omitempty"`
	Number  uint64  `json:"number,omitempty"` // its Idempotency-Key
	TTL     float64 `json:"ttl,omitempty"`    // asked for
	Wait    float64 `json:"wait,omitempty"`
	// Replay: not the client has sent it but the meddler, who got the answer too.
	Replay bool `json:"replay,omitempty"`

	Call   int64  `json:"call"`
	Return int64  `json:"return"`
	Status int    `json:"status,omitempty"` // 0: no answer
	Code   string `json:"code,omitempty"`
	Err    string `json:"err,omitempty"`
	Unsent bool   `json:"unsent,omitempty"` // no connection was made

	Token   uint64  `json:"token,omitempty"`
	Expires float64 `json:"expires,omitempty"`
	Waited  float64 `json:"waited,omitempty"`
	// Of a read, and of the refusal of a try.
	Held        bool     `json:"held,omitempty"`
	HolderOwner string   `json:"holder_owner,omitempty"`
	HolderToken uint64   `json:"holder_token,omitempty"`
	Queue       []string `json:"queue,omitempty"` // owners
}

// fate is what is certain about an op.
type fate int

const (
	unknown fate = iota // it may have been done, or may be done later
	done
	undone // it was refused, and will never be done
)

func (o *op) fate() fate {
	switch {
	case o.Unsent:
		return undone
	case o.Status == 200:
		return done
	case o.Status == 0, o.Status == 500, o.Code == "unknown":
		return unknown
	case o.Status == 503 && o.Kind == acquire && o.Wait != 0:
		return unknown // its place is kept for a while
	}
	return undone
}

// refusedAs tells whether the answer was a refusal with that code.
func (o *op) refusedAs(code string) bool { return o.Status >= 400 && o.Code == code }

// event is something that happened to the cluster.
type event struct {
	At   int64  `json:"at"`
	Node string `json:"node,omitempty"`
	What string `json:"what"`
	// Impairs says that Node may not be able to answer clients from now on (true), or can again (false).
	Impairs *bool `json:"impairs,omitempty"`
}

// history is what happened. Safe for concurrent use.
type history struct {
	start time.Time

	mu     sync.Mutex // guards what follows
	ops    []*op
	events []event
}

func newHistory() *history { return &history{start: time.Now()} }

// now is the time on the clock of the run.
func (h *history) now() int64 { return int64(time.Since(h.start)) }

func (h *history) add(o *op) {
	h.mu.Lock()
	defer h.mu.Unlock()
	o.N = len(h.ops)
	h.ops = append(h.ops, o)
}

func (h *history) note(node, what string) { h.put(event{Node: node, What: what}) }

// impaired notes that clients cannot count on answers of the node from now on, or can again.
func (h *history) impaired(node, what string, yes bool) {
	h.put(event{Node: node, What: what, Impairs: &yes})
}

func (h *history) put(e event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e.At = h.now()
	h.events = append(h.events, e)
}

// save writes the history where load finds it.
func (h *history) save(dir string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return errors.Join(writeLines(dir+"/history.jsonl", h.ops), writeLines(dir+"/faults.jsonl", h.events))
}

func writeLines[T any](path string, lines []T) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := bufio.NewWriter(f)
	e := json.NewEncoder(w)
	for i := range lines {
		if err := e.Encode(lines[i]); err != nil {
			return err
		}
	}
	return w.Flush()
}

func loadHistory(dir string) (*history, error) {
	ops, err := readLines[*op](dir + "/history.jsonl")
	if err != nil {
		return nil, err
	}
	events, err := readLines[event](dir + "/faults.jsonl")
	return &history{ops: ops, events: events}, err
}

func readLines[T any](path string) ([]T, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	var all []T
	for d := json.NewDecoder(bufio.NewReader(f)); ; {
		var v T
		switch err := d.Decode(&v); {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return nil, err
		}
		all = append(all, v)
	}
}
