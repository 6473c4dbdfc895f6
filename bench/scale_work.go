package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// heldPoint is what a server does that holds so many locks.
type heldPoint struct {
	Locks int     `json:"locks"`
	Take  cost    `json:"take"`
	Renew cost    `json:"renew"`
	Pair  cost    `json:"pair"`  // of other names
	Bytes float64 `json:"bytes"` // of memory, for a lock, with all that the runtime keeps in reserve
	// How long the server takes until it grants again, after SIGTERM and after kill -9.
	Restart   float64 `json:"restart_seconds"`
	Recover   float64 `json:"recover_seconds"`
	Snapshots int     `json:"snapshots"` // written while the locks were taken
	// Bytes of the newest snapshot, 0: none was due.
	SnapshotBytes int64 `json:"snapshot_bytes"`
	// The answers to one client that takes and releases other locks all the time: while the locks are taken and snapshots are written, and
	// while as many others renew.
	Taking   stalls `json:"while_taking"`
	Renewing stalls `json:"while_renewing"`
	// The longest of those answers beside snapshots and without; nil: not measured.
	Snapshotting *snapshotStalls `json:"beside_snapshots,omitempty"`
}

func (s *scaled) held(ctx context.Context, n int) (p heldPoint, err error) {
	p.Locks = n
	before := s.host.memory()
	seen := s.watchSnapshots()
	p.Taking, err = s.beside(ctx, func() (err error) {
		p.Take, err = s.all(n, takeOne)
		return err
	})
	p.Snapshots, p.SnapshotBytes = seen()
	if err != nil {
		return p, err
	}
	s.awaitQuiet(ctx)
	p.Renewing, err = s.beside(ctx, func() (err error) {
		p.Renew, err = s.forTime(n, renewOne)
		return err
	})
	if err != nil {
		return p, err
	}
	p.Bytes = float64(s.host.memory()-before) / float64(n)
	p.Pair, err = s.forTime(1<<20, func(c *doubledutchClient, i int) error { return pairOne(c, fmt.Sprintf("other-%d", i)) })
	if err != nil {
		return p, err
	}
	if p.Restart, err = s.again(ctx, syscall.SIGTERM); err != nil {
		return p, err
	}
	if n >= stallsFrom {
		s.flags = []string{"--snapshot-size", stallsLog}
	}
	if p.Recover, err = s.again(ctx, syscall.SIGKILL); err != nil || n < stallsFrom {
		return p, err
	}
	p.Snapshotting, err = s.besideSnapshots(ctx, n)
	return p, err
}

// awaitQuiet returns when no snapshot is being written: what one costs would fall on the few requests of a short measurement.
func (s *scaled) awaitQuiet(ctx context.Context) {
	pause(ctx, 1500*time.Millisecond) // one that is due begins within a second
	for unfinished := true; unfinished && ctx.Err() == nil; pause(ctx, 50*time.Millisecond) {
		dirs, _ := filepath.Glob(filepath.Join(s.data(), "snapshots", "*.tmp"))
		unfinished = len(dirs) > 0
	}
}

// again ends the server, starts it on the same directory, and returns how long the start took until a lock could be had.
func (s *scaled) again(ctx context.Context, signal syscall.Signal) (seconds float64, err error) {
	s.hangUp()
	if err := s.end(signal); err != nil {
		return 0, err
	}
	begun := time.Now()
	if err := s.start(ctx); err != nil {
		return 0, err
	}
	seconds = time.Since(begun).Seconds()
	return seconds, s.dialAll(ctx)
}

// watchSnapshots looks which snapshots come until the function that it returns is called, which tells how many were seen and the size of
// the newest one.
func (s *scaled) watchSnapshots() func() (int, int64) {
	seen := map[string]bool{}
	var newest int64
	look := func() {
		dirs, _ := filepath.Glob(filepath.Join(s.data(), "snapshots", "*"))
		slices.Sort(dirs)
		for _, d := range dirs {
			if !seen[d] && filepath.Ext(d) != ".tmp" {
				seen[d], newest = true, size(d)
			}
		}
	}
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-over:
				return
			case <-time.After(50 * time.Millisecond):
				look()
			}
		}
	}()
	return func() (int, int64) {
		close(over)
		<-ended
		look()
		return len(seen), newest
	}
}

// sessionPoint is what a server does that knows so many shared sessions.
type sessionPoint struct {
	Sessions int     `json:"sessions"`
	Open     cost    `json:"open"`
	Renew    cost    `json:"renew"`
	Bytes    float64 `json:"bytes"`
}

func (s *scaled) sessions(n int) (p sessionPoint, err error) {
	p.Sessions = n
	before := s.host.memory()
	p.Open, err = s.all(n, func(c *doubledutchClient, i int) error {
		return want200(c.post("/v1/sessions", `{"id":"`+scaleKey(i)+`",`+longTTL+`}`))
	})
	if err != nil {
		return p, err
	}
	p.Renew, err = s.forTime(n, func(c *doubledutchClient, i int) error {
		return want200(c.post("/v1/sessions/"+scaleKey(i)+"/renew", `{}`))
	})
	p.Bytes = float64(s.host.memory()-before) / float64(n)
	return p, err
}

// namesPoint is what is left after so many names have come and gone.
type namesPoint struct {
	Names  int   `json:"names"`
	Pair   cost  `json:"pair"`
	Memory int64 `json:"memory"` // of the whole server, in bytes
	Disk   int64 `json:"disk"`
}

// names lets locks come and go, each name once, and looks after so many of them in all.
func (s *scaled) names(counts []int) (points []namesPoint, err error) {
	before := 0
	for _, n := range counts {
		pair, err := s.all(n-before, func(c *doubledutchClient, i int) error { return pairOne(c, fmt.Sprintf("name-%d", before+i)) })
		if err != nil {
			return nil, err
		}
		points = append(points, namesPoint{Names: n, Pair: pair, Memory: s.host.memory(), Disk: size(s.data())})
		before = n
	}
	return points, nil
}

// tablePoint is one figure of the lock table alone.
type tablePoint struct {
	What string  `json:"what"`
	Held int     `json:"held"`
	NS   float64 `json:"ns"`
}

var tableLine = regexp.MustCompile(`(?m)^BenchmarkScale/([^/]+)/held=(\d+)(?:-\d+)?\s+\d+\s+([\d.]+) ns/op`)

// measureTable runs the benchmarks of the lock table.
func measureTable(ctx context.Context, root string) (points []tablePoint, err error) {
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "^BenchmarkScale$", "-benchtime", "0.5s", "./internal/locktable")
	cmd.Dir, cmd.Stderr = root, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go test -bench: %w: %s", err, out)
	}
	for _, m := range tableLine.FindAllStringSubmatch(string(out), -1) {
		held, _ := strconv.Atoi(m[2])
		ns, _ := strconv.ParseFloat(m[3], 64)
		points = append(points, tablePoint{What: strings.ReplaceAll(m[1], "_", " "), Held: held, NS: ns})
	}
	if len(points) == 0 {
		return nil, fmt.Errorf("no figures in %s", out)
	}
	return points, nil
}
