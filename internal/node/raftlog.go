package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"
)

// raftLogger returns a logger for hashicorp/raft whose lines go to l. Until live is set, its warnings are details too:
// the only voter of a cluster begins every life by missing a leader.
func raftLogger(l *slog.Logger, live *atomic.Bool) hclog.Logger {
	h := hclog.NewInterceptLogger(&hclog.LoggerOptions{Name: "raft", Level: hclog.Debug, Output: io.Discard})
	h.RegisterSink(slogSink{to: l.With("component", "raft"), live: live})
	return h
}

// slogSink passes hclog's lines on to slog. Raft tells its everyday steps at info level; to an operator of this server
// they are details, so they are passed one level lower.
type slogSink struct {
	to   *slog.Logger
	live *atomic.Bool
}

func (s slogSink) Accept(_ string, level hclog.Level, msg string, args ...any) {
	to := slog.LevelDebug
	switch level {
	case hclog.Warn:
		if s.live.Load() {
			to = slog.LevelWarn
		}
	case hclog.Error:
		to = slog.LevelError
	case hclog.NoLevel, hclog.Trace, hclog.Debug, hclog.Info, hclog.Off:
	}
	for i, a := range args {
		if err, ok := a.(error); ok && errors.Is(err, net.ErrClosed) {
			to = slog.LevelDebug // this node is closing its connections
		}
		if f, ok := a.(hclog.Format); ok && len(f) > 0 {
			args[i] = fmt.Sprintf(f[0].(string), f[1:]...)
		}
	}
	if !s.to.Enabled(context.Background(), to) {
		return
	}
	s.to.Log(context.Background(), to, strings.TrimSpace(msg), args...)
}
