package server

import (
	"errors"
	"math"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

// Readers for the values of members. Their errors never repeat the value: it may be a key.

var (
	errString   = errors.New("must be a string")
	errKey      = errors.New("must be 32 characters of 0-9, A-Z, a-z")
	errSeconds  = errors.New("must be a number of seconds")
	errTooLong  = errors.New("must be at most " + strconv.Itoa(maxSeconds) + " seconds")
	errPositive = errors.New("must be greater than 0")
	errNegative = errors.New("must not be negative")
	errSlots    = errors.New("must be a whole number, 1 or more")
	errMode     = errors.New(`must be "exclusive" or "shared"`)
)

func readString(v jsontext.Value) (string, error) {
	if v.Kind() != '"' {
		return "", errString
	}
	return unquote(v), nil
}

// readKey reads a key or a session id.
func readKey(v jsontext.Value) (string, error) {
	s, err := readString(v)
	if err != nil {
		return "", err
	}
	if _, ok := locktable.ParseKey(s); !ok {
		return "", errKey
	}
	return s, nil
}

// readSeconds reads a finite number of seconds that is within maxSeconds of 0, to the nanosecond.
func readSeconds(v jsontext.Value) (time.Duration, error) {
	if v.Kind() != '0' {
		return 0, errSeconds
	}
	f, err := strconv.ParseFloat(string(v), 64)
	if err != nil || math.Abs(f) > maxSeconds {
		return 0, errTooLong
	}
	d := time.Duration(math.Round(f * float64(time.Second)))
	switch {
	case f > 0:
		return max(d, minTTL), nil
	case f < 0:
		return min(d, -1), nil
	}
	return 0, nil
}

func readTTL(v jsontext.Value) (time.Duration, error) {
	d, err := readSeconds(v)
	if err == nil && d <= 0 {
		err = errPositive
	}
	return d, err
}

func readDelay(v jsontext.Value) (time.Duration, error) {
	d, err := readSeconds(v)
	if err == nil && d < 0 {
		err = errNegative
	}
	return d, err
}

func readSlots(v jsontext.Value) (uint32, error) {
	if v.Kind() != '0' {
		return 0, errSlots
	}
	n, err := strconv.ParseUint(string(v), 10, 32)
	if err != nil || n == 0 {
		return 0, errSlots
	}
	return uint32(n), nil
}

func readMode(v jsontext.Value) (locktable.Mode, error) {
	s, err := readString(v)
	if err != nil {
		return 0, err
	}
	switch s {
	case "exclusive":
		return locktable.Exclusive, nil
	case "shared":
		return locktable.Shared, nil
	}
	return 0, errMode
}

// set makes a member out of a reader and the place where its value goes.
func set[T, V any](name string, read func(jsontext.Value) (V, error), place func(*T) *V) member[T] {
	return member[T]{name: name, read: func(into *T, v jsontext.Value) error {
		x, err := read(v)
		if err == nil {
			*place(into) = x
		}
		return err
	}}
}
