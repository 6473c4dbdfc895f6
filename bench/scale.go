package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// scaleResults are the figures of how the server bears much of everything.
type scaleResults struct {
	Date    string       `json:"date"`
	Machine machine      `json:"machine"`
	Version string       `json:"version"`
	Table   []tablePoint `json:"table"` // the lock table alone
	Held    []heldPoint  `json:"held"`  // a durable server with so many locks
	Waiting []waitRun    `json:"waiting"`
	// Shared sessions, and names that came and went.
	Sessions []sessionPoint `json:"sessions"`
	Names    []namesPoint   `json:"names"`
}

// The sizes between which growth would show.
var (
	heldSizes    = []int{1_000, 10_000, 100_000, 1_000_000}
	waitSizes    = []int{10, 100, 1_000, 10_000}
	sessionSizes = []int{1_000, 10_000, 100_000}
	nameSizes    = []int{200_000, 600_000, 1_000_000} // one after the other, on one server
)

// scale measures all of it and writes it into the page.
func scale(ctx context.Context, o *options) error {
	figures := filepath.Join(o.out, "docs", "plots", "scale.json")
	var r scaleResults
	if o.render {
		text, err := os.ReadFile(figures)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(text, &r); err != nil {
			return err
		}
		return r.publish(o.out)
	}
	shared, err := os.MkdirTemp("", "bench-scale")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(shared) }()
	if err := buildOne(ctx, shared, ours(ctx, o.root)); err != nil {
		return err
	}
	r.Date, r.Machine = time.Now().UTC().Format(time.DateOnly), thisMachine(shared)
	if err := r.measure(ctx, o, shared); err != nil {
		return err
	}
	if err := writeFigures(figures, &r); err != nil {
		return err
	}
	return r.publish(o.out)
}

func (r *scaleResults) measure(ctx context.Context, o *options, shared string) (err error) {
	begun := time.Now()
	say := func(format string, args ...any) {
		fmt.Fprintf(os.Stderr, "%5s  %s\n", time.Since(begun).Round(time.Second), fmt.Sprintf(format, args...))
	}
	say("the table alone")
	if r.Table, err = measureTable(ctx, o.root); err != nil {
		return err
	}
	for _, n := range upTo(heldSizes, o.most) {
		say("%d held locks", n)
		err := onServer(ctx, o, shared, func(s *scaled) error {
			p, err := s.held(ctx, n)
			r.Held, r.Version = append(r.Held, p), s.service.version
			return err
		})
		if err != nil {
			return fmt.Errorf("%d held locks: %w", n, err)
		}
	}
	for _, n := range upTo(waitSizes, o.most) {
		say("%d waiters", n)
		err := onServer(ctx, o, shared, func(s *scaled) error {
			w, err := s.wait(ctx, n)
			if err == nil {
				r.Waiting = append(r.Waiting, *w)
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("%d waiters: %w", n, err)
		}
	}
	for _, n := range upTo(sessionSizes, o.most) {
		say("%d sessions", n)
		err := onServer(ctx, o, shared, func(s *scaled) error {
			p, err := s.sessions(n)
			r.Sessions = append(r.Sessions, p)
			return err
		})
		if err != nil {
			return fmt.Errorf("%d sessions: %w", n, err)
		}
	}
	say("names that come and go")
	return onServer(ctx, o, shared, func(s *scaled) error {
		r.Names, err = s.names(upTo(nameSizes, o.most))
		return err
	})
}

// upTo leaves out the sizes beyond most, but for the first.
func upTo(sizes []int, most int) []int {
	for i, n := range sizes {
		if i > 0 && n > most {
			return sizes[:i]
		}
	}
	return sizes
}

// onServer starts a durable server for some work, and stops it.
func onServer(ctx context.Context, o *options, shared string, work func(*scaled) error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	h, err := newHost(shared)
	if err != nil {
		return err
	}
	s := &scaled{bench: bench{host: h, warmUp: o.time / 5, time: o.time}}
	defer func() { s.host.stop() }()
	if err := s.start(ctx); err != nil {
		return err
	}
	if err := s.dialAll(ctx); err != nil {
		return err
	}
	defer s.hangUp()
	return work(s)
}
