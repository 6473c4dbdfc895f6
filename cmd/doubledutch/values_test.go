package main

import (
	"fmt"
	"testing"
	"time"
)

func TestSeconds(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"30": 30 * time.Second, "0.25": 250 * time.Millisecond, "1m30s": 90 * time.Second, "0": 0, "1e2": 100 * time.Second,
	} {
		var s seconds
		if err := s.UnmarshalText([]byte(text)); err != nil || s.duration() != want {
			t.Errorf("%q is %v, %v; want %v", text, s.duration(), err, want)
		}
	}
	for _, text := range []string{"", "x", "-1", "-1s", "NaN", "inf", "1e300", "10 s"} {
		var s seconds
		if err := s.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q was read as %v", text, s.duration())
		}
	}
}

func TestWaiting(t *testing.T) {
	var w waiting
	if err := w.UnmarshalText([]byte("forever")); err != nil || w >= 0 {
		t.Errorf("forever is %v, %v", w, err)
	}
	if err := w.UnmarshalText([]byte("5s")); err != nil || time.Duration(w) != 5*time.Second {
		t.Errorf("5s is %v, %v", w, err)
	}
	if err := w.UnmarshalText([]byte("-5s")); err == nil {
		t.Errorf("-5s was read as %v", w)
	}
}

func TestByteSize(t *testing.T) {
	for text, want := range map[string]byteSize{"4096": 4096, "64MiB": 64 << 20, "1GB": 1e9, "2K": 2 << 10, "3 B": 3} {
		var b byteSize
		err := b.UnmarshalText([]byte(text))
		if (err == nil) != (want > 0) || err == nil && b != want {
			t.Errorf("%q is %d, %v; want %d", text, b, err, want)
		}
	}
	for _, text := range []string{"", "MiB", "-1", "9999999999TiB", "1MMiB"} {
		var b byteSize
		if err := b.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q was read as %d", text, b)
		}
	}
}

func TestSecretsHideThemselves(t *testing.T) {
	s := secret("planted")
	for _, text := range []string{fmt.Sprint(s), fmt.Sprintf("%v %+v %#v %s %q", s, s, s, s, s), s.LogValue().String()} {
		if want := "(secret)"; len(text) < len(want) || fmt.Sprint(text) == "planted" || containsPlanted(text) {
			t.Errorf("a secret prints as %s", text)
		}
	}
}

func containsPlanted(s string) bool {
	for i := range len(s) - len("planted") + 1 {
		if s[i:i+len("planted")] == "planted" {
			return true
		}
	}
	return false
}

func TestAgo(t *testing.T) {
	for seconds, want := range map[float64]string{
		-1: "0ms", 0.3504: "350ms", 12.9: "12s", 185: "3m05s", 7800: "2h10m", 5*86400 + 3*3600: "5d3h",
	} {
		if got := ago(seconds); got != want {
			t.Errorf("%v seconds are %q, want %q", seconds, got, want)
		}
	}
}

func TestNewKey(t *testing.T) {
	a, b := newKey(), newKey()
	if a == b || len(a) != 32 || len(b) != 32 {
		t.Errorf("keys %q and %q", a, b)
	}
}
