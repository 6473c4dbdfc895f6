package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/doubledutch-lock/doubledutch/cmd/doubledutch/exitcode"
)

// The server says something at least every 15 seconds; a connection on which nothing came for so long is dead.
const streamPause = 45 * time.Second

// eventAnswer is one event of a stream.
type eventAnswer struct {
	ID       string          `json:"id"`
	Kind     string          `json:"event"`
	Raw      json.RawMessage `json:"data"`
	Name     string          `json:"-"`
	At       time.Time       `json:"-"`
	Token    uint64          `json:"-"`
	Owner    string          `json:"-"`
	Metadata string          `json:"-"`
	By       string          `json:"-"`
	Reason   string          `json:"-"`
	Status   string          `json:"-"`
	Progress string          `json:"-"`
	Result   string          `json:"-"`
	Error    string          `json:"-"`
}

// follow calls do with the events of a stream, and comes back to it when the connection is lost, after the last event that it
// got. begin is called whenever a stream has begun, so that what do does with the present state misses nothing. It ends with the
// first error of either, or when the server refuses.
func (c *client) follow(ctx context.Context, path string, begin func() error, do func(*eventAnswer) error) error {
	patient := *c
	patient.timeout = max(c.timeout, streamPause)
	last := ""
	began := false
	for lost := time.Now(); ; {
		err := patient.followOnce(ctx, path, &last, func() error {
			began, lost = true, time.Now()
			return begin()
		}, func(e *eventAnswer) error {
			lost = time.Now()
			return do(e)
		})
		switch {
		case ctx.Err() != nil:
			return exitcode.With(exitcode.Interrupted, errors.New("interrupted"))
		case err != nil && exitcode.Of(err) != exitcode.Unavailable:
			return err
		case err != nil && (!began || time.Since(lost) > patient.timeout):
			return err
		}
		if err := pause(ctx, retryPause); err != nil {
			return err
		}
	}
}

func (c *client) followOnce(ctx context.Context, path string, last *string, begin func() error, do func(*eventAnswer) error) error {
	body, err := c.stream(ctx, request{method: http.MethodGet, path: path, lastEvent: *last})
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }()
	if err := begin(); err != nil {
		return err
	}
	lines := bufio.NewReaderSize(body, 64<<10)
	var e eventAnswer
	for {
		line, err := lines.ReadString('\n')
		if errors.Is(err, io.EOF) {
			return nil // the server stops, or we were too slow: it is asked again
		}
		if err != nil {
			return err
		}
		name, value, _ := strings.Cut(strings.TrimRight(line, "\r\n"), ": ")
		switch {
		case name == "id":
			e.ID = value
		case name == "event":
			e.Kind = value
		case name == "data":
			e.Raw = json.RawMessage(value)
		case name == "" && value == "" && e.Kind != "":
			if err := e.read(); err != nil {
				return err
			}
			if err := do(&e); err != nil {
				return err
			}
			*last, e = e.ID, eventAnswer{}
		}
	}
}

// read takes the data apart.
func (e *eventAnswer) read() error {
	var d struct {
		Name, Owner, Metadata, By, Reason, Status, Progress, Result, Error string
		At                                                                 time.Time
		Token                                                              uint64
	}
	if err := decode(e.Raw, &d); err != nil {
		return err
	}
	e.Name, e.Owner, e.Metadata, e.By, e.Reason, e.Status = d.Name, d.Owner, d.Metadata, d.By, d.Reason, d.Status
	e.Progress, e.Result, e.Error, e.At, e.Token = d.Progress, d.Result, d.Error, d.At, d.Token
	return nil
}
