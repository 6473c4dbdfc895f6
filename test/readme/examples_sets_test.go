package readme

import (
	"strings"
	"testing"
)

func TestExampleTransfer(t *testing.T) {
	t.Parallel()
	lines := example(t, "transfer.sh", "curl")
	text := strings.Join(lines, "\n")
	refused := having(lines, "this would wait for itself; bob-to-alice waits for accounts/alice, held by alice-to-bob; alice-to-bob waits for accounts/bob, held by bob-to-alice")
	if len(lines) != 6 || refused != 1 || having(lines, "alice-to-bob has both") != 1 || having(lines, "is done") != 2 {
		t.Errorf("it printed\n%s", text)
	}
}
