package schedule

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func at(t *testing.T, s string) time.Time {
	t.Helper()
	x, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func TestEvery(t *testing.T) {
	s, err := Every(15 * time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]string{
		"2026-11-24T02:00:00Z":           "2026-11-24T02:00:00Z",
		"2026-11-24T02:14:59.999999999Z": "2026-11-24T02:00:00Z",
		"2026-11-24T02:15:00Z":           "2026-11-24T02:15:00Z",
		"1969-12-31T23:59:59Z":           "1969-12-31T23:45:00Z",
	} {
		start, end, err := s.Slot(at(t, in))
		if err != nil || !start.Equal(at(t, want)) || end.Sub(start) != 15*time.Minute {
			t.Errorf("%s: %v to %v, %v", in, start, end, err)
		}
	}
	for _, d := range []time.Duration{0, -time.Second, MinEvery - 1, MaxEvery + 1} {
		if _, err := Every(d); err == nil {
			t.Errorf("%v was accepted", d)
		}
	}
}

func TestCron(t *testing.T) {
	for _, c := range []struct{ expression, zone, at, start, end string }{
		{"0 2 * * *", "", "2026-11-24T01:59:59Z", "2026-11-23T02:00:00Z", "2026-11-24T02:00:00Z"},
		{"0 2 * * *", "", "2026-11-24T02:00:00Z", "2026-11-24T02:00:00Z", "2026-11-25T02:00:00Z"},
		{"@daily", "", "2026-11-24T12:00:00Z", "2026-11-24T00:00:00Z", "2026-11-25T00:00:00Z"},
		{"0 2 * * *", "Europe/Zurich", "2026-11-24T01:00:00Z", "2026-11-24T01:00:00Z", "2026-11-25T01:00:00Z"},
		{"30 4 1 * *", "", "2026-11-24T12:00:00Z", "2026-11-01T04:30:00Z", "2026-12-01T04:30:00Z"},
		{"0 0 29 2 *", "", "2026-11-24T12:00:00Z", "2024-02-29T00:00:00Z", "2028-02-29T00:00:00Z"},
		// Either day, as crontab(5) has it: the 1st, and every Monday.
		{"0 0 1 * MON", "", "2026-12-01T12:00:00Z", "2026-12-01T00:00:00Z", "2026-12-07T00:00:00Z"},
		{"*/20 9-17 * * MON-FRI", "America/New_York", "2026-11-24T14:45:00Z", "2026-11-24T14:40:00Z", "2026-11-24T15:00:00Z"},
		// The clocks go back from 3:00 to 2:00 on 2026-10-25 (1:00 UTC), and 2:30 comes twice.
		{"30 2 * * *", "Europe/Zurich", "2026-10-25T12:00:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"},
	} {
		s, err := Cron(c.expression, c.zone)
		if err != nil {
			t.Errorf("%s: %v", c.expression, err)
			continue
		}
		start, end, err := s.Slot(at(t, c.at))
		if err != nil || !start.Equal(at(t, c.start)) || !end.Equal(at(t, c.end)) {
			t.Errorf("%s %s at %s: %v to %v, %v", c.expression, c.zone, c.at, start, end, err)
		}
	}
}

// All moments of a slot have the same slot, slots follow each other without gap, and no day has two of a daily job, or none, across
// the changes of the clocks.
func TestSlotsTileTheCalendar(t *testing.T) {
	for _, c := range []struct {
		expression, zone string
		least, most      time.Duration
	}{
		{"30 2 * * *", "Europe/Zurich", 22 * time.Hour, 26 * time.Hour},
		{"0 0 * * *", "America/Sao_Paulo", 23 * time.Hour, 25 * time.Hour},
		{"30 2 * * *", "Australia/Lord_Howe", 22 * time.Hour, 26 * time.Hour},
		{"15 */6 * * *", "America/New_York", 5 * time.Hour, 7 * time.Hour},
		{"0 * * * *", "Europe/London", time.Hour, time.Hour},
		{"0 3 * * SUN", "", 7 * 24 * time.Hour, 7 * 24 * time.Hour},
	} {
		s, err := Cron(c.expression, c.zone)
		if err != nil {
			t.Fatal(err)
		}
		moment := at(t, "2018-01-01T00:00:00Z")
		start, end, err := s.Slot(moment)
		for n := 0; n < 800 && err == nil; n++ {
			length := end.Sub(start)
			if length < c.least || length > c.most {
				t.Errorf("%s %s: the slot of %v lasts %v", c.expression, c.zone, start, length)
			}
			for _, in := range []time.Duration{0, 1, length / 3, length / 2, length - time.Minute, length - 1} {
				a, b, err := s.Slot(start.Add(in))
				if err != nil || !a.Equal(start) || !b.Equal(end) {
					t.Fatalf("%s %s: %v is in %v to %v and not in %v to %v (%v)", c.expression, c.zone, start.Add(in), a, b, start, end, err)
				}
			}
			previous := end
			start, end, err = s.Slot(end)
			if !start.Equal(previous) {
				t.Fatalf("%s %s: after %v comes %v", c.expression, c.zone, previous, start)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestBadExpressions(t *testing.T) {
	for _, c := range [][2]string{
		{"", ""},
		{"* * * *", ""},
		{"* * * * * *", ""},
		{"61 * * * *", ""},
		{"a b c d e", ""},
		{"0 0 30 2 *", ""},
		{"TZ=UTC 0 0 * * *", ""},
		{"CRON_TZ=UTC 0 0 * * *", ""},
		{"TZ=", ""},
		{"@every 1m", ""},
		{"@reboot", ""},
		{"@nonsense", ""},
		{"0 0 * * *", "Nowhere/City"},
		{"0 0 * * *", "Local"},
		{"0 0 * * *", "localtime"},
		{"0 0 * * *", "posixrules"},
		{"0 0 * * *", "../../etc/passwd"},
		{strings.Repeat("1,", 200) + "1 * * * *", ""},
	} {
		if _, err := Cron(c[0], c[1]); err == nil || !strings.Contains(err.Error(), " ") {
			t.Errorf("%q in %q: %v", c[0], c[1], err)
		}
	}
}

func TestNoSlotYet(t *testing.T) {
	s, err := Cron("0 0 29 2 *", "")
	if err != nil {
		t.Fatal(err)
	}
	if start, end, err := s.Slot(at(t, "2026-11-24T00:00:00Z")); err != nil || end.Sub(start) < 3*366*24*time.Hour {
		t.Error(start, end, err)
	}
	if errors.Is(err, ErrNoSlot) {
		t.Error(err)
	}
}

func FuzzCron(f *testing.F) {
	f.Add("0 2 * * *", "UTC", int64(1_800_000_000))
	f.Add("*/7 1-5,9 1,15 JAN-MAR MON#2", "Europe/Zurich", int64(0))
	f.Add("TZ=", "", int64(-1))
	f.Fuzz(func(t *testing.T, expression, zone string, unix int64) {
		if unix < 0 || unix > 4_000_000_000 {
			return
		}
		s, err := Cron(expression, zone)
		if err != nil {
			return
		}
		moment := time.Unix(unix, 0)
		start, end, err := s.Slot(moment)
		if err == nil && (start.After(moment) || !end.After(moment)) {
			t.Errorf("%q: %v is not in %v to %v", expression, moment, start, end)
		}
	})
}
