package storage

import (
	"log/slog"
	"time"
)

// supervise runs open and returns what it does, or an error of ErrHung when one of its writes or syncs takes longer than
// o.HangTimeout. An open that comes back later all the same is undone. While it takes long, the log says what it is at.
func supervise(o Options, g *guard, open func() (*Store, error)) (*Store, error) {
	type result struct {
		s   *Store
		err error
	}
	opened := make(chan result, 1)
	go func() {
		s, err := open()
		opened <- result{s, err}
	}()
	t := time.NewTicker(min(max(o.HangTimeout/20, 5*time.Millisecond), startPatience/4))
	defer t.Stop()
	report := newStartReport(o.Logger)
	for {
		select {
		case r := <-opened:
			return r.s, r.err
		case <-t.C:
			if err := g.hung(o.HangTimeout); err != nil {
				go func() {
					if r := <-opened; r.s != nil {
						_ = r.s.Close()
					}
				}()
				return nil, err
			}
			report.look(g)
		}
	}
}

// startReport tells what a start is at that takes long.
type startReport struct {
	logger *slog.Logger
	began  time.Time
	next   time.Time
}

func newStartReport(l *slog.Logger) *startReport {
	now := time.Now()
	return &startReport{logger: l, began: now, next: now.Add(startPatience)}
}

// look logs if it is time to.
func (r *startReport) look(g *guard) {
	now := time.Now()
	if now.Before(r.next) {
		return
	}
	r.next = now.Add(startReportEvery)
	op, age := g.oldest()
	if op == "" {
		op, age = "read and check what is there", now.Sub(r.began)
	}
	r.logger.Warn("preparing the log takes long", "doing", op, "for", age, "since_start", now.Sub(r.began))
}
