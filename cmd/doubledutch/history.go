package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// historyCmd shows past holds.
type historyCmd struct {
	Name  string  `arg:"" help:"Name of the lock."`
	At    dayTime `placeholder:"TIME" help:"Only who held it then: 02:03, \"2026-11-24 02:03\" (both by this machine's clock and zone) or 2026-11-24T02:03:00Z."`
	Limit uint    `placeholder:"N" help:"Show at most so many past holds (default: 100)."`
	clientFlags
}

// Help shows an example.
func (*historyCmd) Help() string {
	return `The newest hold comes first. Times are those of the cluster's calendar, in this machine's zone.
The server remembers a limited number of holds of each lock (32, for a week, unless it is set otherwise).

Examples:

    doubledutch history backups
    doubledutch history backups --at 02:03`
}

// dayTime is a moment as a person writes it; zero: none.
type dayTime time.Time

// UnmarshalText reads a time of day, which is today's or, if that is yet to come, yesterday's.
func (d *dayTime) UnmarshalText(text []byte) error {
	t, err := parseDayTime(string(text), time.Now())
	*d = dayTime(t)
	return err
}

func parseDayTime(text string, now time.Time) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	for _, layout := range []string{"2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02T15:04:05", "2006-01-02T15:04"} {
		if t, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			return t, nil
		}
	}
	for _, layout := range []string{"15:04:05", "15:04"} {
		t, err := time.Parse(layout, text)
		if err != nil {
			continue
		}
		at := time.Date(now.Year(), now.Month(), now.Day(), t.Hour(), t.Minute(), t.Second(), 0, now.Location())
		if at.After(now) {
			at = time.Date(now.Year(), now.Month(), now.Day()-1, t.Hour(), t.Minute(), t.Second(), 0, now.Location())
		}
		return at, nil
	}
	return time.Time{}, fmt.Errorf("%q is not a time; write for example 02:03, \"2026-11-24 02:03\" or 2026-11-24T02:03:00Z", text)
}

// historyAnswer is what the server says of the holds of a lock.
type historyAnswer struct {
	Name            string         `json:"name"`
	Holders         []holderAnswer `json:"holders"`
	HolderCount     int            `json:"holder_count"`
	Holds           []pastAnswer   `json:"holds"`
	RememberedSince *time.Time     `json:"remembered_since"`
}

// pastAnswer is one past hold.
type pastAnswer struct {
	Owner   string    `json:"owner"`
	Token   uint64    `json:"token"`
	Mode    string    `json:"mode"`
	Since   time.Time `json:"since"`
	Ended   time.Time `json:"ended"`
	HeldFor float64   `json:"held_for"` // seconds
	Waited  float64   `json:"waited"`   // seconds
	End     string    `json:"end"`
	By      string    `json:"by"`
	Reason  string    `json:"reason"`
}

// Run shows the past holds.
func (h *historyCmd) Run(c *console) error {
	path, err := lockPath(h.Name)
	if err != nil {
		return err
	}
	at := time.Time(h.At)
	q := url.Values{}
	if !at.IsZero() {
		q.Set("at", at.UTC().Format(time.RFC3339Nano))
	}
	if h.Limit > 0 {
		q.Set("limit", strconv.FormatUint(uint64(h.Limit), 10))
	}
	path += "/history"
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	return h.run(c, func(ctx context.Context, server *client) error {
		got, err := server.do(ctx, request{method: http.MethodGet, path: path})
		if err != nil {
			return err
		}
		if h.JSON {
			return printRaw(c.out, got.body)
		}
		var answer historyAnswer
		if err := decode(got.body, &answer); err != nil {
			return err
		}
		return answer.print(c.out, got.at, at)
	})
}

// print prints present and past holds, which are those of the moment asked about unless that is zero.
func (a *historyAnswer) print(w io.Writer, now, asked time.Time) error {
	t := newTable(w)
	if len(a.Holders)+len(a.Holds) == 0 {
		t.line(a.nobody(asked))
		return t.done()
	}
	t.row("OWNER", "MODE", "TOKEN", "SINCE", "UNTIL", "HELD FOR", "WAITED", "END")
	for i := range a.Holders {
		h := &a.Holders[i]
		t.row(cell(h.Owner), cell(h.Mode), strconv.FormatUint(h.Token, 10), clock(h.Since), "-", h.heldFor(now), "-", "holds it now")
	}
	t.more(a.HolderCount - len(a.Holders))
	for i := range a.Holds {
		p := &a.Holds[i]
		t.row(cell(p.Owner), cell(p.Mode), strconv.FormatUint(p.Token, 10), clock(p.Since), clock(p.Ended), ago(p.HeldFor), ago(p.Waited), p.end())
	}
	return t.done()
}

// nobody says that no hold is known.
func (a *historyAnswer) nobody(asked time.Time) string {
	text := cell(a.Name) + ": no hold is remembered"
	if !asked.IsZero() {
		text = cell(a.Name) + ": nobody is remembered to have held it at " + clock(asked)
	}
	if a.RememberedSince != nil {
		text += "; the oldest hold that is remembered began at " + clock(*a.RememberedSince)
	}
	return text
}

// end says how the hold ended.
func (p *pastAnswer) end() string {
	text := p.End
	switch {
	case p.End == "handed_over":
		text = "handed over to " + somebody(p.By)
	case p.End == "revoked":
		text = "broken by " + somebody(p.By)
	}
	if p.Reason != "" {
		text += ": " + p.Reason
	}
	return printable(text)
}
