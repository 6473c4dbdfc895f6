package locktable

import (
	"fmt"

	"github.com/doubledutch-lock/doubledutch/internal/command"
)

// Limits of version 2 where the settings say nothing.
const (
	defaultMaxTasks  = 1_000_000
	defaultMaxResult = 16 << 10
)

// MaxTasks returns how many tasks may be known.
func MaxTasks(s *command.Settings) int { return orDefault(s.GetMaxTasks(), defaultMaxTasks) }

// MaxResult returns how many bytes a task's result, error or progress may have.
func MaxResult(s *command.Settings) int { return orDefault(s.GetMaxResult(), defaultMaxResult) }

func orDefault(n uint32, standard int) int {
	if n != 0 {
		return int(n)
	}
	return standard
}

// checkSettings2 checks the fields of version 2, each of which may be 0.
func checkSettings2(s *command.Settings) error {
	for _, n := range []struct {
		name        string
		value, most uint32
	}{
		{"max_tasks", s.GetMaxTasks(), 1 << 30},
		{"max_result", s.GetMaxResult(), maxStringLimit},
	} {
		if n.value > n.most {
			return fmt.Errorf("setting %s must be between 1 and %d, or 0 for the default", n.name, n.most)
		}
	}
	return nil
}
