package main

import (
	"io"
	"log/slog"
	"os"
	"time"

	"golang.org/x/term"
)

// newLogger returns the logger that serve and everything below it writes to: text where a person reads it, JSON where a
// program does.
func newLogger(w io.Writer, level, format string) *slog.Logger {
	var l slog.Level
	_ = l.UnmarshalText([]byte(level)) // one of the words that the flag allows
	options := &slog.HandlerOptions{Level: l, ReplaceAttr: readableDuration}
	if format == "json" || format == "auto" && !isTerminal(w) {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// readableDuration writes a duration as 12.4ms; in JSON it would otherwise be a number of nanoseconds.
func readableDuration(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(threeDigits(a.Value.Duration()).String())
	}
	return a
}

// threeDigits rounds d to three digits, but never by more than half a second.
func threeDigits(d time.Duration) time.Duration {
	unit := time.Duration(1)
	for d.Abs()/unit >= 1000 && unit < time.Second {
		unit *= 10
	}
	return d.Round(unit)
}

// isTerminal tells whether w is a terminal.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
