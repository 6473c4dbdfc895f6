package main

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"
)

// seconds is a duration that a person writes as 30s, 1.5m or, in seconds, as a bare number. It is never negative.
type seconds time.Duration

// UnmarshalText reads a duration.
func (s *seconds) UnmarshalText(text []byte) error {
	d, err := parseSeconds(string(text))
	if err != nil {
		return err
	}
	*s = seconds(d)
	return nil
}

func (s seconds) duration() time.Duration { return time.Duration(s) }

// json is the duration as the server reads it: seconds, with decimals.
func (s seconds) json() float64 { return time.Duration(s).Seconds() }

// lifetime is a duration that cannot be 0. It is 0 if it was not given.
type lifetime time.Duration

// UnmarshalText reads a duration.
func (l *lifetime) UnmarshalText(text []byte) error {
	d, err := parseSeconds(string(text))
	if err == nil && d == 0 {
		err = fmt.Errorf("%q is no time at all; write for example 30s, 5m or a number of seconds", text)
	}
	if err != nil {
		return err
	}
	*l = lifetime(d)
	return nil
}

func (l lifetime) duration() time.Duration { return time.Duration(l) }

// json is the duration as the server reads it: seconds, with decimals.
func (l lifetime) json() float64 { return time.Duration(l).Seconds() }

// filled is a text that cannot be empty: what a script meant by an empty one is not what leaving it out means.
type filled string

// UnmarshalText reads the text.
func (f *filled) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		return errors.New("it is empty")
	}
	*f = filled(text)
	return nil
}

// parseSeconds reads 30s, 1.5m or a number of seconds.
func parseSeconds(text string) (time.Duration, error) {
	wrong := fmt.Errorf("%q is not a duration; write for example 30s, 5m or a number of seconds", text)
	if n, err := strconv.ParseFloat(text, 64); err == nil {
		if !(n >= 0 && n*float64(time.Second) < math.MaxInt64) { // also catches NaN
			return 0, wrong
		}
		return time.Duration(n * float64(time.Second)), nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, wrong
	}
	return d, nil
}

// waiting is how long an acquire may stand in the queue. Negative: as long as it takes.
type waiting time.Duration

// UnmarshalText reads a duration or the word forever.
func (w *waiting) UnmarshalText(text []byte) error {
	if string(text) == "forever" {
		*w = -1
		return nil
	}
	d, err := parseSeconds(string(text))
	if err != nil {
		return fmt.Errorf("%w, or forever", err)
	}
	*w = waiting(d)
	return nil
}

func (w waiting) duration() time.Duration { return time.Duration(w) }

// byteSize is a number of bytes that a person writes as 64MiB, 1GB or 4096.
type byteSize int64

// UnmarshalText reads a size.
func (b *byteSize) UnmarshalText(text []byte) error {
	digits := strings.TrimRight(string(text), "kKMGTiB")
	unit, known := byteUnits[string(text[len(digits):])]
	n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
	if err != nil || !known || n < 0 || n > math.MaxInt64/unit {
		return fmt.Errorf("%q is not a size; write for example 64MiB, 1GB or a number of bytes", text)
	}
	*b = byteSize(n * unit)
	return nil
}

var byteUnits = map[string]int64{
	"": 1, "B": 1,
	"K": 1 << 10, "KiB": 1 << 10, "kB": 1e3,
	"M": 1 << 20, "MiB": 1 << 20, "MB": 1e6,
	"G": 1 << 30, "GiB": 1 << 30, "GB": 1e9,
	"T": 1 << 40, "TiB": 1 << 40, "TB": 1e12,
}

// secret is a value that must not reach a log or a help text.
type secret string

// String hides the secret.
func (s secret) String() string {
	if s == "" {
		return ""
	}
	return "(secret)"
}

// GoString hides the secret.
func (s secret) GoString() string { return s.String() }

// LogValue hides the secret.
func (s secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// reveal returns the secret in clear.
func (s secret) reveal() string { return string(s) }

// apiKey is the pair of flags by which an API key is given.
type apiKey struct {
	APIKey     secret `name:"api-key" placeholder:"KEY" help:"API key. Other users of this machine can see command lines: prefer the variable or the file (${env})."`
	APIKeyFile string `name:"api-key-file" placeholder:"FILE" help:"File that holds the API key."`
}

// load returns the API key, or "" if none is set.
func (a *apiKey) load() (secret, error) {
	key := a.APIKey.reveal()
	if a.APIKeyFile != "" {
		b, err := os.ReadFile(a.APIKeyFile)
		if err != nil {
			return "", fmt.Errorf("--api-key-file: %w", err)
		}
		if key = strings.TrimSpace(string(b)); key == "" {
			return "", fmt.Errorf("--api-key-file: %s holds no key", a.APIKeyFile)
		}
	}
	if strings.ContainsFunc(key, notInHeader) {
		return "", errors.New("the API key may only have visible ASCII characters, without spaces")
	}
	return secret(key), nil
}

// AfterApply settles which of the two counts when both were given.
func (a *apiKey) AfterApply(ctx *kong.Context) error {
	return newSources(ctx).settle("api-key", "api-key-file")
}

// notInHeader tells whether r cannot be part of a bearer token.
func notInHeader(r rune) bool { return r <= ' ' || r > '~' }
