package main

import (
	"context"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/doubledutch-lock/doubledutch/cmd/doubledutch/exitcode"
)

// untilSignal returns a context that ends with the first SIGINT or SIGTERM. A second one ends the process at once. After
// stop, signals have their usual effect again.
func untilSignal(log *slog.Logger) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		for range 2 {
			select {
			case s := <-signals:
				if ctx.Err() != nil {
					log.Warn("a second signal: the server stops at once")
					os.Exit(exitcode.Interrupted)
				}
				log.Info("stopping", "signal", s.String())
				cancel()
			case <-done:
				return
			}
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(done)
		cancel()
	}
}

// notifyManager passes a state on to systemd, if it started this process and wants to know (Type=notify). The protocol is
// one datagram to the socket named by NOTIFY_SOCKET; see sd_notify(3).
func notifyManager(state string) error {
	socket := os.Getenv("NOTIFY_SOCKET")
	if socket == "" {
		return nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	_, err = conn.Write([]byte(state))
	return err
}
