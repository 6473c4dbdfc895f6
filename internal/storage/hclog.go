package storage

import (
	"io"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

// slogSink hands what is logged through hclog to slog.
type slogSink struct{ l *slog.Logger }

func (s slogSink) Accept(_ string, level hclog.Level, msg string, args ...any) {
	switch {
	case level >= hclog.Error:
		s.l.Error(msg, args...)
	case level == hclog.Warn:
		s.l.Warn(msg, args...)
	default:
		s.l.Debug(msg, args...)
	}
}

// hclogTo returns an hclog.Logger whose messages go to l with the attribute component. Information becomes debug.
func hclogTo(l *slog.Logger, component string) hclog.Logger {
	h := hclog.NewInterceptLogger(&hclog.LoggerOptions{Output: io.Discard, Level: hclog.Off})
	h.RegisterSink(slogSink{l.With("component", component)})
	return h
}
