package main

import (
	"context"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/doubledutch-lock/doubledutch/cmd/doubledutch/exitcode"
)

// untilSignal returns a context that ends with the first SIGINT or SIGTERM, or when stop is called. A signal after that
// ends the process at once.
func untilSignal(log *slog.Logger) (ctx context.Context, stop context.CancelFunc) {
	ctx, stop = context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		for s := range signals {
			if ctx.Err() != nil {
				log.Warn("another signal: the server stops at once", "signal", s.String())
				os.Exit(exitcode.Interrupted)
			}
			log.Info("stopping", "signal", s.String())
			stop()
		}
	}()
	return ctx, stop
}

// exitAfter ends the process when it is still there limit after the end of ctx, be it that a start or a shutdown hangs.
func exitAfter(ctx context.Context, limit time.Duration, log *slog.Logger) {
	context.AfterFunc(ctx, func() {
		time.AfterFunc(limit, func() {
			log.Error("stopping took longer than --shutdown-timeout; what was acknowledged is on disk")
			os.Exit(exitcode.Failure)
		})
	})
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
