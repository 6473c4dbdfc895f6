//go:build linux

package torture

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// tenure is from the first to the last moment at which somebody certainly worked under one grant of a lock, by monotonic.
type tenure struct {
	lock       string
	token      uint64
	who        string
	begin, end time.Duration
}

// monotonic is the time by the clock that all processes of the machine share.
func monotonic() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		panic(err)
	}
	return time.Duration(t.Nano())
}

// clash is two tenures that cannot both be.
type clash struct {
	what          string
	first, second tenure
}

// judgeTenures says where two have worked under one lock at the same time, or in another order than that of their tokens: whoever has
// a token has stopped before anybody begins who has a greater one. Nobody shares a token. This is exact; there is no tolerance in it.
func judgeTenures(tenures []tenure) (wrong []clash) {
	tenures = merge(tenures)
	slices.SortFunc(tenures, func(a, b tenure) int {
		return cmp.Or(cmp.Compare(a.lock, b.lock), cmp.Compare(a.token, b.token), cmp.Compare(a.begin, b.begin))
	})
	for i, last := 1, 0; i < len(tenures); i++ { // last: of this lock so far, the one that ended last
		s := tenures[i]
		switch first := tenures[last]; {
		case s.lock != first.lock:
			last = i
			continue
		case s.token == tenures[i-1].token:
			wrong = append(wrong, clash{"two have the same token", tenures[i-1], s})
		case s.begin <= first.end:
			wrong = append(wrong, clash{"somebody worked under a lock when others had it already, or before whom they had it", first, s})
		}
		if s.end > tenures[last].end {
			last = i
		}
	}
	return wrong
}

// merge makes one tenure of all that are the same one's under the same grant: processes of one command.
func merge(tenures []tenure) (merged []tenure) {
	type grant struct {
		lock  string
		token uint64
		who   string
	}
	at := map[grant]int{}
	for _, s := range tenures {
		g := grant{s.lock, s.token, s.who}
		i, known := at[g]
		if !known {
			at[g] = len(merged)
			merged = append(merged, s)
			continue
		}
		merged[i].begin, merged[i].end = min(merged[i].begin, s.begin), max(merged[i].end, s.end)
	}
	return merged
}

func (s tenure) String() string {
	return fmt.Sprintf("%s, token %d, %s: from %v to %v", s.lock, s.token, s.who, s.begin, s.end)
}

// describe tells what is wrong, and what happened around it: who worked, and what was done to whom.
func (c clash) describe(h *history, tenures []tenure, around time.Duration) string {
	from, to := min(c.first.end, c.second.begin)-around, max(c.first.end, c.second.begin)+around
	offset := monotonic() - time.Duration(h.now())
	shifted := make([]tenure, 0, len(tenures))
	for _, s := range append(merge(tenures), c.first, c.second) {
		s.begin, s.end = s.begin-offset, s.end-offset
		shifted = append(shifted, s)
	}
	n := len(shifted) - 2
	return fmt.Sprintf("%s:\n  %v\n  %v%s", c.what, shifted[n], shifted[n+1], timeline(h, shifted[:n], c.first.lock, from-offset, to-offset))
}

// timeline tells what happened on a lock, and to the nodes and to whoever else, in some time on the clock of the run.
func timeline(h *history, tenures []tenure, lock string, from, to time.Duration) string {
	type line struct {
		at   time.Duration
		text string
	}
	var lines []line
	for _, s := range tenures {
		if s.lock == lock && s.begin <= to && s.end >= from {
			lines = append(lines, line{s.begin, fmt.Sprintf("%s begins with token %d", s.who, s.token)}, line{s.end, fmt.Sprintf("%s was seen last with token %d", s.who, s.token)})
		}
	}
	h.mu.Lock()
	for _, e := range h.events {
		if at := time.Duration(e.At); at >= from && at <= to {
			lines = append(lines, line{at, strings.TrimSpace(e.Node + ": " + e.What)})
		}
	}
	h.mu.Unlock()
	slices.SortStableFunc(lines, func(a, b line) int { return int(a.at - b.at) })
	var b strings.Builder
	for _, l := range lines {
		fmt.Fprintf(&b, "\n    %s %s", at(int64(l.at)), l.text)
	}
	return b.String()
}

// Each lie in a history of tenures is found, and the truth is not called one.
func TestJudgeTenures(t *testing.T) {
	ms := time.Millisecond
	truth := []tenure{
		{"a", 1, "x", 10 * ms, 20 * ms},
		{"a", 4, "y", 21 * ms, 30 * ms},
		{"a", 6, "x", 31 * ms, 31 * ms},
		{"b", 2, "z", 10 * ms, 90 * ms},
	}
	if wrong := judgeTenures(truth); len(wrong) > 0 {
		t.Errorf("the truth is called a lie: %v", wrong)
	}
	for name, lie := range map[string]tenure{
		"an overlap with the one before": {"a", 5, "w", 30 * ms, 30 * ms},
		"an overlap with the one after":  {"a", 5, "w", 31 * ms, 31 * ms},
		"one within a long one":          {"b", 3, "w", 40 * ms, 50 * ms},
		"a token that is too small":      {"a", 3, "w", 40 * ms, 50 * ms},
		"a token that is too great":      {"a", 7, "w", 5 * ms, 6 * ms},
		"a token of somebody else":       {"a", 6, "w", 35 * ms, 36 * ms},
		"the last of many before it":     {"b", 1, "w", 5 * ms, 10 * ms},
	} {
		if wrong := judgeTenures(append(slices.Clone(truth), lie)); len(wrong) == 0 {
			t.Errorf("nobody sees %s", name)
		}
	}
}
