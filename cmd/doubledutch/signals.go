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

// sameRequest is how long a signal that comes again is still the same request: whoever ends a whole process group, as
// timeout(1) does, signals some of its processes twice.
const sameRequest = time.Second

// untilSignal returns a context that ends with the first SIGINT or SIGTERM, or when stop is called. A signal after that
// ends the process at once, unless it is the first one again within sameRequest.
func untilSignal(log *slog.Logger) (ctx context.Context, stop context.CancelFunc) {
	ctx, stop = context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		obey(ctx, signals, log, stop)
		os.Exit(exitcode.Interrupted)
	}()
	return ctx, stop
}

// obey calls stop at the first signal and returns at one that asks for more.
func obey(ctx context.Context, signals <-chan os.Signal, log *slog.Logger, stop func()) {
	var first os.Signal
	var at time.Time
	for s := range signals {
		switch {
		case ctx.Err() == nil:
			first, at = s, time.Now()
			log.Info("stopping", "signal", s.String())
			stop()
		case s == first && time.Since(at) < sameRequest:
			log.Debug("the same signal again", "signal", s.String())
		default:
			log.Warn("another signal: the server stops at once", "signal", s.String())
			return
		}
	}
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
