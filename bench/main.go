package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// options are what the command line says.
type options struct {
	rounds  int
	time    time.Duration
	only    string
	partial bool
	root    string
	out     string
	render  bool
	scale   bool
	most    int
	clients []int
	waiters int
	handoff int
	locks   int
}

func main() {
	o := options{clients: []int{1, 16, 64, 256}, waiters: 100, handoff: 32, locks: 50_000}
	flag.IntVar(&o.rounds, "rounds", 3, "how often every system has its turn; what is told is the median")
	flag.DurationVar(&o.time, "time", 1500*time.Millisecond, "how long each measurement lasts")
	flag.StringVar(&o.only, "only", "", "only the systems in whose names one of these words is, with commas between")
	flag.BoolVar(&o.partial, "partial", false, "leave out what is not installed, instead of refusing to begin")
	flag.StringVar(&o.root, "root", "..", "root of the repository")
	flag.StringVar(&o.out, "out", "", "directory whose docs get the results (default: the root of the repository)")
	flag.BoolVar(&o.render, "render", false, "only write the page and the plots anew, from the figures that are there")
	flag.BoolVar(&o.scale, "scale", false, "measure how DoubleDutch bears much of everything, instead of the others beside it")
	flag.IntVar(&o.most, "most", 1_000_000, "how much of everything, with -scale")
	flag.Parse()
	if o.out == "" {
		o.out = o.root
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	what := run
	if o.scale {
		what = scale
	}
	if err := what(ctx, &o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o *options) error {
	figures := filepath.Join(o.out, "docs", "plots", "peers.json")
	if o.render {
		text, err := os.ReadFile(figures)
		if err != nil {
			return err
		}
		var r results
		if err := json.Unmarshal(text, &r); err != nil {
			return err
		}
		return publish(o.out, &r)
	}
	chosen, err := choose(systems(), o)
	if err != nil {
		return err
	}
	shared, err := os.MkdirTemp("", "bench-peers")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(shared) }()
	if err := os.Chmod(shared, 0o755); err != nil {
		return err
	}
	if err := build(ctx, o.root, shared); err != nil {
		return err
	}
	r, err := measureAll(ctx, o, chosen, shared)
	if err != nil {
		return err
	}
	if err := writeFigures(figures, r); err != nil {
		return err
	}
	return publish(o.out, r)
}

// writeFigures keeps all that was measured.
func writeFigures(path string, r any) error {
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

// choose returns those systems that are wanted, and says which packages are missing for them.
func choose(all []*System, o *options) ([]*System, error) {
	var chosen []*System
	var packages []string
	for _, s := range all {
		if !wanted(s, o.only) {
			continue
		}
		if len(s.missing()) == 0 {
			chosen = append(chosen, s)
			continue
		}
		packages = append(packages, s.packages...)
	}
	slices.Sort(packages)
	if packages = slices.Compact(packages); len(packages) > 0 {
		hint := "apt-get install --no-install-recommends " + strings.Join(packages, " ")
		if !o.partial {
			return nil, fmt.Errorf("some servers are not installed: %s (or leave them out with -partial)", hint)
		}
		fmt.Fprintln(os.Stderr, "left out, not installed:", hint)
	}
	if len(chosen) == 0 {
		return nil, errors.New("no system is left to measure")
	}
	return chosen, nil
}

func wanted(s *System, only string) bool {
	if only == "" {
		return true
	}
	for word := range strings.SplitSeq(only, ",") {
		if strings.Contains(strings.ToLower(s.Name), strings.ToLower(strings.TrimSpace(word))) {
			return true
		}
	}
	return false
}

// A source is a program that is built here.
type source struct{ dir, name, pkg, flags string }

// ours is our own server.
func ours(ctx context.Context, root string) source {
	version, _ := exec.CommandContext(ctx, "git", "-C", root, "describe", "--tags", "--always", "--dirty").Output()
	return source{root, "doubledutch", "./cmd/doubledutch", " -X main.buildVersion=" + strings.TrimSpace(string(version))}
}

// build makes those servers that do not come from packages.
func build(ctx context.Context, root, shared string) error {
	return errors.Join(
		buildOne(ctx, shared, ours(ctx, root)),
		buildOne(ctx, shared, source{filepath.Join(root, "bench"), "etcd", "go.etcd.io/etcd/server/v3", ""}),
	)
}

func buildOne(ctx context.Context, shared string, s source) error {
	fmt.Fprintln(os.Stderr, "building", s.name)
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w"+s.flags, "-o", filepath.Join(shared, s.name), s.pkg)
	cmd.Dir, cmd.Stderr = s.dir, os.Stderr
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("building %s: %w", s.name, err)
	}
	return nil
}

// measureAll gives every system its turn, round by round, so that what disturbs the machine for a while disturbs all of them.
func measureAll(ctx context.Context, o *options, chosen []*System, shared string) (*results, error) {
	r := newResults(o, chosen, shared)
	begun := time.Now()
	for round := range o.rounds {
		order := slices.Clone(r.Systems)
		if round%2 == 1 {
			slices.Reverse(order)
		}
		for _, s := range order {
			if ctx.Err() != nil {
				return nil, errors.New("interrupted")
			}
			fmt.Fprintf(os.Stderr, "%5s  round %d of %d  %s\n", time.Since(begun).Round(time.Second), round+1, o.rounds, s.Name)
			s.noteFailure(s.turn(ctx, o, shared, func(ctx context.Context, b *bench) error { return s.speed(ctx, o, b) }))
			if round == 0 {
				s.noteFailure(s.turn(ctx, o, shared, func(ctx context.Context, b *bench) error { return s.space(ctx, o, b) }))
			}
		}
	}
	return r, nil
}

// noteFailure keeps what went wrong for the page; the other systems go on.
func (s *outcome) noteFailure(err error) {
	if err != nil {
		s.Failures = append(s.Failures, err.Error())
		fmt.Fprintln(os.Stderr, "       failed:", err)
	}
}

// turn starts a system, measures it and stops it.
func (s *outcome) turn(ctx context.Context, o *options, shared string, work func(context.Context, *bench) error) error {
	// When a client fails that has the lock, the others would wait for ever.
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute+20*o.time)
	defer cancel()
	h, err := newHost(shared)
	if err != nil {
		return err
	}
	defer h.stop()
	service, err := s.start(ctx, h)
	if err != nil {
		return err
	}
	s.Version = service.version
	return work(ctx, &bench{host: h, service: service, warmUp: o.time / 5, time: o.time})
}

// space measures what held locks and waiters cost. What the servers grow by would say less after other work.
func (s *outcome) space(ctx context.Context, o *options, b *bench) (err error) {
	if s.Wait, err = b.wait(ctx, o.waiters); err != nil {
		return fmt.Errorf("wait: %w", err)
	}
	if s.Hold, err = b.hold(ctx, o.locks); err != nil {
		return fmt.Errorf("hold: %w", err)
	}
	return nil
}

// speed measures pairs and hand-offs.
func (s *outcome) speed(ctx context.Context, o *options, b *bench) error {
	for _, n := range o.clients {
		p, err := b.pairs(ctx, n)
		if err != nil {
			return fmt.Errorf("pairs with %d clients: %w", n, err)
		}
		s.Pairs = append(s.Pairs, *p)
	}
	t, err := b.handoff(ctx, o.handoff)
	if err != nil {
		return fmt.Errorf("hand-off: %w", err)
	}
	s.Handoffs = append(s.Handoffs, *t)
	return nil
}
