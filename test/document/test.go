package document

import (
	"errors"
	"fmt"
	"testing"
)

// Test runs the blocks of a file of the repository in order, each as a subtest, and skips those that need what is not on this machine.
// It wants so many blocks of each language at least: a mark that was lost would otherwise not be missed.
func Test(t *testing.T, h *House, path string, least map[string]int) {
	t.Helper()
	blocks, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, b := range blocks {
		count[b.Language]++
	}
	for language, n := range least {
		if count[language] < n {
			t.Fatalf("only %d blocks of %s are marked as runnable, of at least %d", count[language], language, n)
		}
	}
	for _, b := range blocks {
		t.Run(fmt.Sprintf("line_%d", b.Line), func(t *testing.T) {
			err := h.Run(&b)
			switch {
			case errors.Is(err, ErrSkip):
				t.Skip(err)
			case err != nil:
				t.Error(err)
			}
		})
	}
}
