package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// lsCmd lists locks.
type lsCmd struct {
	Prefix string `arg:"" optional:"" help:"Only locks whose names begin so."`
	Limit  uint32 `placeholder:"N" help:"Stop after N locks (default: list all)."`
	clientFlags
}

// Help shows an example.
func (*lsCmd) Help() string {
	return `Examples:

    doubledutch ls
    doubledutch ls jobs/ --json`
}

// pageAnswer is one page of the listing.
type pageAnswer struct {
	Locks  []json.RawMessage `json:"locks"`
	Cursor string            `json:"cursor"`
}

// Run lists the locks, page by page.
func (l *lsCmd) Run(c *console) error {
	return l.run(c, func(ctx context.Context, server *client) error {
		locks, at, err := l.collect(ctx, server)
		if err != nil {
			return err
		}
		if l.JSON {
			return printJSON(c.out, map[string]any{"locks": locks})
		}
		return printLocks(c.out, locks, at)
	})
}

// collect fetches pages until the last one, or until there are as many locks as wanted. The locks of a long list are of
// slightly different times; at is that of the last page.
func (l *lsCmd) collect(ctx context.Context, server *client) (locks []json.RawMessage, at time.Time, err error) {
	locks = []json.RawMessage{}
	cursor := ""
	for {
		var page *pageAnswer
		if page, at, err = l.page(ctx, server, cursor, int(l.Limit)-len(locks)); err != nil {
			return nil, at, err
		}
		locks = append(locks, page.Locks...)
		if l.Limit > 0 && len(locks) >= int(l.Limit) {
			return locks[:l.Limit], at, nil
		}
		if page.Cursor == "" || page.Cursor == cursor {
			return locks, at, nil
		}
		cursor = page.Cursor
	}
}

// page fetches one page, of at most limit locks if limit is positive.
func (l *lsCmd) page(ctx context.Context, server *client, cursor string, limit int) (*pageAnswer, time.Time, error) {
	q := url.Values{}
	if l.Prefix != "" {
		q.Set("prefix", l.Prefix)
	}
	if cursor != "" {
		q.Set("cursor", cursor)
	}
	if limit > 0 {
		q.Set("limit", strconv.Itoa(min(limit, maxPage)))
	}
	path := "/v1/locks"
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	got, err := server.do(ctx, request{method: http.MethodGet, path: path})
	if err != nil {
		return nil, time.Time{}, err
	}
	page := &pageAnswer{}
	return page, got.at, decode(got.body, page)
}

// maxPage is the most locks that a page is asked for.
const maxPage = 1000

// printLocks prints one line for each lock: its first holder, and how many more hold it or wait.
func printLocks(w io.Writer, locks []json.RawMessage, at time.Time) error {
	t := newTable(w)
	t.row("LOCK", "HOLDER", "MODE", "TOKEN", "HELD FOR", "EXPIRES IN", "WAITING")
	for _, raw := range locks {
		var l lockAnswer
		if err := decode(raw, &l); err != nil {
			return err
		}
		t.row(l.cells(at)...)
	}
	return t.done()
}

// cells are the lock's columns in a list.
func (l *lockAnswer) cells(at time.Time) []string {
	waiting := strconv.Itoa(l.QueueLength)
	if len(l.Holders) == 0 {
		return []string{cell(l.Name), "-", "-", "-", "-", "-", waiting}
	}
	first := &l.Holders[0]
	owner := cell(first.Owner)
	if l.HolderCount > 1 {
		owner += fmt.Sprintf(" (+%d)", l.HolderCount-1)
	}
	token := strconv.FormatUint(first.Token, 10)
	return []string{cell(l.Name), owner, cell(first.Mode), token, first.heldFor(at), ago(first.ExpiresIn), waiting}
}
