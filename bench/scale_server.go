package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/load"
)

// scaled is a durable server of ours, and the connections that keep it busy.
type scaled struct {
	bench
	endpoint *load.Endpoint
	address  string
	conns    []*doubledutchClient
	flags    []string // of the next start, beside the usual ones
}

// busy is how many connections work at a time.
const busy = 64

// start starts the server on the directory of its host, which may hold what an earlier one has left.
func (s *scaled) start(ctx context.Context) error {
	program := filepath.Join(s.host.shared, "doubledutch")
	if s.address == "" {
		a, err := address()
		if err != nil {
			return err
		}
		s.address = a
		version, err := s.host.prepare(ctx, "", program, "version")
		if err != nil {
			return err
		}
		e, err := load.NewEndpoint("http://"+a, nil)
		if err != nil {
			return err
		}
		s.endpoint = e
		s.service = &service{version: strings.TrimPrefix(version, "doubledutch "), at: e.URL, dial: func(ctx context.Context, _ int) (client, error) { return s.dialOne(ctx) }}
	}
	args := append([]string{program, "serve", "--listen", s.address, "--data-dir", s.data(), "--log-level", "error", "--quiet"}, s.flags...)
	err := s.host.start("", args...)
	if err != nil {
		return err
	}
	return s.awaitUp(ctx)
}

// awaitUp returns when a lock can be had, soon enough to time it.
func (s *scaled) awaitUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := try(ctx, s.service)
		if err == nil {
			return nil
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("it does not come up: %w\n%s", err, s.host.tail())
		}
	}
}

func (s *scaled) data() string { return filepath.Join(s.host.dir, "data") }

func (s *scaled) dialOne(ctx context.Context) (*doubledutchClient, error) {
	c, err := s.endpoint.Dial(ctx, time.Minute)
	if err != nil {
		return nil, err
	}
	return &doubledutchClient{conn: c}, nil
}

func (s *scaled) dialAll(ctx context.Context) error {
	s.conns = nil
	for range busy {
		c, err := s.dialOne(ctx)
		if err != nil {
			return err
		}
		s.conns = append(s.conns, c)
	}
	return nil
}

func (s *scaled) hangUp() {
	for _, c := range s.conns {
		c.close()
	}
}

// end ends the server with a signal and waits until it is gone.
func (s *scaled) end(signal syscall.Signal) error {
	cmd := s.host.procs[len(s.host.procs)-1]
	if err := cmd.Process.Signal(signal); err != nil {
		return err
	}
	err := cmd.Wait()
	s.host.procs = s.host.procs[:len(s.host.procs)-1]
	log := s.host.logs[len(s.host.logs)-1]
	s.host.logs = s.host.logs[:len(s.host.logs)-1]
	if signal == syscall.SIGKILL {
		err = nil
	}
	return errors.Join(err, log.Close())
}

// cost is what something took, for one of many.
type cost struct {
	PerSecond float64 `json:"per_second"`
	ServerCPU float64 `json:"server_cpu_us"`
}

// all does numbers 0 to n-1, each once, by all connections.
func (s *scaled) all(n int, do func(c *doubledutchClient, i int) error) (cost, error) {
	var next atomic.Int64
	return s.together(func(c *doubledutchClient, done *atomic.Int64) error {
		for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
			if err := do(c, i); err != nil {
				return err
			}
			done.Add(1)
		}
		return nil
	})
}

// forTime does as many as it can in the time of a measurement, spread over the numbers 0 to n-1.
func (s *scaled) forTime(n int, do func(c *doubledutchClient, i int) error) (cost, error) {
	return s.during(s.time, n, do)
}

// during is forTime for another time.
func (s *scaled) during(d time.Duration, n int, do func(c *doubledutchClient, i int) error) (cost, error) {
	const stride = 7919 // a prime, so that neighbours do not follow each other
	var next atomic.Int64
	end := time.Now().Add(d)
	return s.together(func(c *doubledutchClient, done *atomic.Int64) error {
		for time.Now().Before(end) {
			if err := do(c, int(next.Add(1)*stride%int64(n))); err != nil {
				return err
			}
			done.Add(1)
		}
		return nil
	})
}

func (s *scaled) together(work func(c *doubledutchClient, done *atomic.Int64) error) (cost, error) {
	var done atomic.Int64
	errs := make([]error, len(s.conns))
	cpu, begun := s.host.cpu(), time.Now()
	var wg sync.WaitGroup
	for i, c := range s.conns {
		wg.Go(func() { errs[i] = work(c, &done) })
	}
	wg.Wait()
	took := time.Since(begun)
	return cost{PerSecond: float64(done.Load()) / took.Seconds(), ServerCPU: per(s.host.cpu()-cpu, done.Load())}, errors.Join(errs...)
}

// The lifetime of what is held is so long that nothing expires.
const longTTL = `"ttl":86400`

func scaleName(i int) string { return fmt.Sprintf("scale-%08d", i) }
func scaleKey(i int) string  { return fmt.Sprintf("%032d", i) }

func want200(a load.Answer, err error) error {
	if err == nil && a.Status != 200 {
		err = fmt.Errorf("answered %d %s", a.Status, a.Body)
	}
	return err
}

func takeOne(c *doubledutchClient, i int) error {
	return want200(c.post("/v1/locks/"+scaleName(i), `{"key":"`+scaleKey(i)+`",`+longTTL+`}`))
}

func renewOne(c *doubledutchClient, i int) error {
	return want200(c.post("/v1/locks/"+scaleName(i)+"/renew", `{"key":"`+scaleKey(i)+`"}`))
}

// pairOne takes a free lock and gives it back.
func pairOne(c *doubledutchClient, name string) error {
	h, err := c.lock(context.Background(), name)
	if err != nil {
		return err
	}
	return h.unlock(context.Background())
}

// size is the bytes of the files below dir.
func size(dir string) (sum int64) {
	_ = filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil // a file that went in between is no part of it
		}
		if info, err := d.Info(); err == nil {
			sum += info.Size()
		}
		return nil
	})
	return sum
}
