package main

import (
	"bufio"
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/doubledutch-lock/doubledutch/cmd/doubledutch/exitcode"
)

// A signal that comes again within a second is the same request; a later or another one ends the server.
func TestRepeatedSignals(t *testing.T) {
	type at struct {
		when time.Duration
		s    os.Signal
	}
	for name, tt := range map[string]struct {
		signals []at
		ends    bool
	}{
		"as timeout(1) does": {[]at{{0, syscall.SIGTERM}, {2 * time.Millisecond, syscall.SIGTERM}, {900 * time.Millisecond, syscall.SIGTERM}}, false},
		"later":              {[]at{{0, syscall.SIGTERM}, {1100 * time.Millisecond, syscall.SIGTERM}}, true},
		"another one":        {[]at{{0, syscall.SIGTERM}, {time.Millisecond, os.Interrupt}}, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, stop := context.WithCancel(t.Context())
			signals := make(chan os.Signal)
			ended := make(chan struct{})
			go func() {
				obey(ctx, signals, slog.New(slog.DiscardHandler), stop)
				close(ended)
			}()
			began := time.Now()
			for _, s := range tt.signals {
				time.Sleep(s.when - time.Since(began))
				signals <- s.s
				synctest.Wait()
				if ctx.Err() == nil {
					t.Errorf("%s: the first signal did not stop it", name)
				}
			}
			select {
			case <-ended:
				if !tt.ends {
					t.Errorf("%s: it ended at once", name)
				}
			default:
				if tt.ends {
					t.Errorf("%s: it did not end at once", name)
				}
			}
			close(signals)
		})
	}
}

// A server whose log and standard output nobody reads any more goes on.
func TestServeOutlivesTheReadersOfItsOutput(t *testing.T) {
	readLog, writeLog, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	readOut, writeOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := doubledutch(t, "serve", "--volatile", "--listen", "127.0.0.1:0", "--log-level", "debug").command(t.Context())
	cmd.Stdout, cmd.Stderr = writeOut, writeLog
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(writeOut.Close(), writeLog.Close()); err != nil {
		t.Fatal(err)
	}
	first, err := bufio.NewReader(readOut).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(readOut.Close(), readLog.Close()); err != nil {
		t.Fatal(err)
	}
	_, url, _ := strings.Cut(strings.TrimSpace(first), " serves on ")
	for range 3 { // each of them is a line of the log
		doubledutch(t, "ping", "--server", url).check(exitcode.OK, "ready")
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the server ended with %v", err)
	}
}
