package locktable

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/doubledutch-lock/doubledutch/internal/command"
)

// The limits that came with version 2 of the settings. In settings, 0 stands for these values for good: settings of
// version 1 do not have the fields, and what they mean must not depend on the server that reads them.
const (
	defaultMaxSet            = 64
	defaultMaxTasks          = 1_000_000
	defaultMaxResult         = 16 << 10
	defaultMaxHistory        = 100_000
	defaultMaxHistoryPerLock = 32
	defaultHistoryRetention  = 7 * day

	// Most readings of the calendar that are remembered.
	maxAnchors = 1000
	// The latest reading of the calendar that is believed, in nanoseconds since 1970. It leaves the cluster clock 90 years.
	maxCalendar = int64(2 * maxDuration)
)

// MaxSet returns how many locks an acquire may name.
func MaxSet(s *command.Settings) int { return orDefault(s.GetMaxSet(), defaultMaxSet) }

// MaxTasks returns how many tasks may be known.
func MaxTasks(s *command.Settings) int { return orDefault(s.GetMaxTasks(), defaultMaxTasks) }

// MaxResult returns how many bytes a task's result, error or progress, or a reason, may have.
func MaxResult(s *command.Settings) int { return orDefault(s.GetMaxResult(), defaultMaxResult) }

// MaxHistory returns how many past holds are remembered in all.
func MaxHistory(s *command.Settings) int { return orDefault(s.GetMaxHistory(), defaultMaxHistory) }

// MaxHistoryPerLock returns how many past holds of one lock are remembered.
func MaxHistoryPerLock(s *command.Settings) int {
	return orDefault(s.GetMaxHistoryPerLock(), defaultMaxHistoryPerLock)
}

// HistoryRetention returns how long past holds are remembered.
func HistoryRetention(s *command.Settings) time.Duration {
	if d := s.GetHistoryRetention(); d != 0 {
		return time.Duration(d)
	}
	return defaultHistoryRetention
}

func orDefault(n uint32, standard int) int {
	if n != 0 {
		return int(n)
	}
	return standard
}

// memoryText is how many bytes of text past holds may take, and as many again the reasons of broken keys. They have room
// of their own, so that remembering refuses nobody anything.
func memoryText(s *command.Settings) uint64 { return s.GetMaxTextBytes() / 8 }

// withDefaults returns a copy of s in which no field of version 2 is 0.
func withDefaults(s *command.Settings) *command.Settings {
	if s == nil {
		return nil
	}
	c := proto.CloneOf(s)
	c.MaxSet, c.MaxTasks, c.MaxResult = uint32(MaxSet(s)), uint32(MaxTasks(s)), uint32(MaxResult(s))
	c.MaxHistory, c.MaxHistoryPerLock = uint32(MaxHistory(s)), uint32(MaxHistoryPerLock(s))
	c.HistoryRetention = int64(HistoryRetention(s))
	return c
}

// checkSettings2 checks the fields of version 2, each of which may be 0.
func checkSettings2(s *command.Settings) error {
	for _, n := range []struct {
		name        string
		value, most uint32
	}{
		{"max_set", s.GetMaxSet(), maxMaxSet},
		{"max_tasks", s.GetMaxTasks(), 1 << 30},
		{"max_result", s.GetMaxResult(), maxStringLimit},
		{"max_history", s.GetMaxHistory(), 1 << 26},
		{"max_history_per_lock", s.GetMaxHistoryPerLock(), 1 << 16},
	} {
		if n.value > n.most {
			return fmt.Errorf("setting %s must be between 1 and %d, or 0 for the default", n.name, n.most)
		}
	}
	if d := s.GetHistoryRetention(); d != 0 && (d < int64(MinTTL) || d > int64(maxDuration)) {
		return fmt.Errorf("setting history_retention must be between %v and %v, or 0 for the default", MinTTL, maxDuration)
	}
	return nil
}

// CheckAsk returns the first rule that a breaks, or nil.
func CheckAsk(s *command.Settings, a *command.Ask) error {
	if err := CheckName(s, a.GetName()); err != nil {
		return err
	}
	if err := checkDuration("the time to make way", time.Duration(a.GetWithin()), MinTTL, s.GetMaxWait()); err != nil {
		return err
	}
	return checkReason(s, a.GetOwner(), a.GetReason())
}

// CheckBreak returns the first rule that b breaks, or nil.
func CheckBreak(s *command.Settings, b *command.Break) error {
	if err := CheckName(s, b.GetName()); err != nil {
		return err
	}
	if b.GetUpToToken() == 0 {
		return errors.New("the token is missing up to which holds are broken")
	}
	return checkReason(s, b.GetOwner(), b.GetReason())
}

// checkReason checks who gives an order, and why.
func checkReason(s *command.Settings, owner, reason string) error {
	if err := checkOwner(s, owner, ""); err != nil {
		return err
	}
	if len(reason) > MaxResult(s) {
		return errors.New("the reason is longer than " + strconv.Itoa(MaxResult(s)) + " bytes")
	}
	return checkText("the reason", reason, true)
}

// CheckHandOver returns the first rule that h breaks, or nil.
func CheckHandOver(s *command.Settings, h *command.HandOver) error {
	if h.GetRequest() != 0 && h.GetSession() == "" {
		return errRequest
	}
	if h.GetTo() == "" {
		return errors.New("the successor is missing")
	}
	return checkOwner(s, h.GetTo(), "")
}

// CheckCalendar returns what is wrong with a reading of the calendar, or nil.
func CheckCalendar(c *command.Calendar) error {
	if c.GetAt() < 0 || c.GetAt() > maxCalendar {
		return errors.New("the reading of the calendar is out of bounds")
	}
	return nil
}
