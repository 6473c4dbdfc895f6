package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/alecthomas/kong"
)

// lockAnswer is what the server says of a lock.
type lockAnswer struct {
	Name        string         `json:"name"`
	Slots       uint32         `json:"slots"`
	BlockedFor  float64        `json:"blocked_for"` // seconds
	Holders     []holderAnswer `json:"holders"`
	HolderCount int            `json:"holder_count"`
	Queue       []waiterAnswer `json:"queue"`
	QueueLength int            `json:"queue_length"`
	explanation
}

// holderAnswer is one holder.
type holderAnswer struct {
	Owner     string    `json:"owner"`
	Metadata  string    `json:"metadata"`
	Mode      string    `json:"mode"`
	Token     uint64    `json:"token"`
	Since     time.Time `json:"since"`
	HeldFor   *float64  `json:"held_for"`   // seconds; older servers do not tell
	ExpiresIn float64   `json:"expires_in"` // seconds
}

// heldFor is how long the hold has lasted at the time at.
func (h *holderAnswer) heldFor(at time.Time) string { return lasted(h.HeldFor, h.Since, at) }

// lasted is how long something has gone on at the time at: as the server told, or since it began.
func lasted(told *float64, since, at time.Time) string {
	if told != nil {
		return ago(*told)
	}
	return ago(at.Sub(since).Seconds())
}

// waiterAnswer is one place in the queue.
type waiterAnswer struct {
	Owner    string    `json:"owner"`
	Metadata string    `json:"metadata"`
	Mode     string    `json:"mode"`
	Position int       `json:"position"`
	Since    time.Time `json:"since"`
	Waited   *float64  `json:"waited"`        // seconds; older servers do not tell
	Expected *float64  `json:"expected_wait"` // seconds
}

// showCmd shows one lock.
type showCmd struct {
	Name string `arg:"" help:"Name of the lock."`
	keyFlags
	clientFlags
}

// AfterApply settles which of two flags counts.
func (*showCmd) AfterApply(ctx *kong.Context) error { return settleKeys(ctx) }

// Help shows an example.
func (*showCmd) Help() string {
	return `Tells who holds the lock, since when and why, who waits and for how long that may take yet, what the
holder was asked, and what the holder itself waits for. With your key, it tells your own place, too.
Keys are never shown. A lock that nobody uses is free, whether it was ever used or not.

Examples:

    doubledutch show backups
    doubledutch show --key-file key backups
    doubledutch show --json backups`
}

// Run shows who holds the lock and who waits for it.
func (s *showCmd) Run(c *console) error {
	path, err := lockPath(s.Name)
	if err != nil {
		return err
	}
	key, err := s.load(c.in)
	if err != nil {
		return err
	}
	return s.run(c, func(ctx context.Context, server *client) error {
		got, err := server.do(ctx, request{method: http.MethodGet, path: path, lockKey: key})
		if err != nil {
			return err
		}
		if s.JSON {
			return printRaw(c.out, got.body)
		}
		var lock lockAnswer
		if err := decode(got.body, &lock); err != nil {
			return err
		}
		return printLock(c.out, &lock, got.at, key != "")
	})
}

// printLock prints one lock: what it is, who holds it and who waits for it, and what else there is to know. mine says that
// somebody asked with a key.
func printLock(w io.Writer, l *lockAnswer, at time.Time, mine bool) error {
	t := newTable(w)
	t.line(cell(l.Name) + ": " + l.state())
	if len(l.Holders) > 0 {
		t.line("")
		t.row("HOLDER", "MODE", "TOKEN", "SINCE", "HELD FOR", "EXPIRES IN", "METADATA")
	}
	for i := range l.Holders {
		h := &l.Holders[i]
		t.row(cell(h.Owner), cell(h.Mode), strconv.FormatUint(h.Token, 10), clock(h.Since), h.heldFor(at), ago(h.ExpiresIn), cell(h.Metadata))
	}
	t.more(l.HolderCount - len(l.Holders))
	if len(l.Queue) > 0 {
		t.flush()
		t.line("")
		t.row("WAITER", "MODE", "PLACE", "WAITING FOR", "EXPECTED", "METADATA")
	}
	for _, q := range l.Queue {
		t.row(cell(q.Owner), cell(q.Mode), strconv.Itoa(q.Position), lasted(q.Waited, q.Since, at), about(q.Expected), cell(q.Metadata))
	}
	t.more(l.QueueLength - len(l.Queue))
	t.flush()
	for i, text := range l.sentences(mine) {
		if i == 0 {
			t.line("")
		}
		t.line(printable(text))
	}
	return t.done()
}

// state says in a few words how the lock stands.
func (l *lockAnswer) state() string {
	switch {
	case l.Slots > 0:
		return fmt.Sprintf("%d of %d slots taken, %d waiting", l.HolderCount, l.Slots, l.QueueLength)
	case l.HolderCount > 0:
		return fmt.Sprintf("held, %d waiting", l.QueueLength)
	case l.BlockedFor > 0:
		return fmt.Sprintf("blocked for %s after an expiry or a break, %d waiting", ago(l.BlockedFor), l.QueueLength)
	default:
		return "free"
	}
}

// table prints aligned columns and remembers the first error.
type table struct {
	out io.Writer
	tab *tabwriter.Writer
	err error
}

func newTable(w io.Writer) *table {
	return &table{out: w, tab: tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)}
}

// row adds a row; its cells hold no tabs or newlines.
func (t *table) row(cells ...string) {
	last := len(cells) - 1
	for _, c := range cells[:last] {
		t.write(c + "\t")
	}
	t.write(cells[last] + "\n")
}

func (t *table) write(s string) {
	if _, err := io.WriteString(t.tab, s); err != nil && t.err == nil {
		t.err = err
	}
}

// more says how many rows were left out.
func (t *table) more(n int) {
	if n > 0 {
		t.flush()
		t.line(fmt.Sprintf("... and %d more", n))
	}
}

// flush prints the rows so far; later ones are aligned anew.
func (t *table) flush() {
	if err := t.tab.Flush(); err != nil && t.err == nil {
		t.err = err
	}
}

// line prints text outside the columns.
func (t *table) line(text string) {
	if _, err := fmt.Fprintln(t.out, text); err != nil && t.err == nil {
		t.err = err
	}
}

// done prints what is left and returns the first error.
func (t *table) done() error {
	t.flush()
	return t.err
}
