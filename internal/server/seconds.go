package server

import (
	"strconv"
	"strings"
	"time"
)

// parsePlainSeconds reads a duration written as plain decimal digits with an optional fraction ("30", "0.25"). What is
// finer than a nanosecond is rounded up. It returns false for everything else (signs, exponents, "inf", hex, an empty
// string) and for more than maxSeconds.
func parsePlainSeconds(s string) (time.Duration, bool) {
	whole, frac, dot := strings.Cut(s, ".")
	if !digits(whole) || dot && !digits(frac) {
		return 0, false
	}
	whole = strings.TrimLeft(whole, "0")
	if len(whole) > 10 {
		return 0, false
	}
	n, _ := strconv.ParseInt("0"+whole, 10, 64)
	if n > maxSeconds {
		return 0, false
	}
	return time.Duration(n)*time.Second + nanos(frac), true
}

// nanos reads the digits after the point, rounding up beyond the ninth.
func nanos(frac string) time.Duration {
	var d time.Duration
	for i := range 9 {
		d *= 10
		if i < len(frac) {
			d += time.Duration(frac[i] - '0')
		}
	}
	if len(frac) > 9 && strings.Trim(frac[9:], "0") != "" {
		d++
	}
	return d
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// parseWait reads the seconds of a timeout: like parsePlainSeconds, and with a minus sign before it "as long as the
// connection lasts", which is returned as -1.
func parseWait(s string) (time.Duration, bool) {
	rest, negative := strings.CutPrefix(s, "-")
	d, ok := parsePlainSeconds(rest)
	if ok && negative && d > 0 {
		return -1, true
	}
	return atLeastMilli(d), ok
}

// atLeastMilli rounds what is shorter than a millisecond, but not zero, up to one.
func atLeastMilli(d time.Duration) time.Duration {
	if d > 0 && d < minTTL {
		return minTTL
	}
	return d
}

// appendSeconds appends d in seconds, with as many decimals as it has; negative durations become 0.
func appendSeconds(b []byte, d time.Duration) []byte {
	if d < 0 {
		d = 0
	}
	b = strconv.AppendInt(b, int64(d/time.Second), 10)
	rest := d % time.Second
	if rest == 0 {
		return b
	}
	b = append(b, '.')
	for unit := time.Second / 10; rest > 0; unit /= 10 {
		b = append(b, '0'+byte(rest/unit))
		rest %= unit
	}
	return b
}

// appendMillis is appendSeconds rounded down to the millisecond: nobody may be told that he has longer than he has.
func appendMillis(b []byte, d time.Duration) []byte {
	return appendSeconds(b, d.Truncate(time.Millisecond))
}

func secondsText(d time.Duration) string { return string(appendSeconds(nil, d)) }
