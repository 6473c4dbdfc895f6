package readme

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/doubledutch-lock/doubledutch/test/document"
)

const efficiencyPage = "docs/efficiency-mode.md"

// clients are the examples of the page, by language.
func clients(t *testing.T) map[string]document.Block {
	t.Helper()
	text, err := os.ReadFile("../../" + efficiencyPage)
	if err != nil {
		t.Fatal(err)
	}
	blocks, err := document.Find(strings.ReplaceAll(string(text), "<!-- client -->", document.RunMark))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]document.Block{}
	for _, b := range blocks {
		found[b.Language] = b
	}
	if len(found) != 2 || len(blocks) != 2 {
		t.Fatalf("the page has %d clients", len(blocks))
	}
	return found
}

// dialects say how a client is used, and what runs it.
var dialects = map[string]struct {
	get, release string // with the name; with name, server and key
	run          func(h *document.House, code []string) (string, error)
}{
	"python": {
		get: `got = get_lock("%s"); print(*(got or ["false"]))`, release: `print(str(release_lock("%s", "%s", "%s")).lower())`,
		run: func(h *document.House, code []string) (string, error) {
			if h.Python == "" {
				return "", fmt.Errorf("%w: there is no python3 with the module requests", document.ErrSkip)
			}
			return h.Execute(code, h.Python, "-")
		},
	},
	"sh": {
		get: `get_lock "%s"`, release: `release_lock "%s" "%s" "%s" | sed s/released/true/`,
		run: func(h *document.House, code []string) (string, error) { return h.Execute(code, "sh") },
	},
}

// TestEfficiencyMode plays with three independent servers what the page says, the warning included.
func TestEfficiencyMode(t *testing.T) {
	t.Parallel()
	for language, client := range clients(t) {
		t.Run(language, func(t *testing.T) {
			t.Parallel()
			stop, h := make([]func(), 3), (*document.House)(nil)
			var at [3]string
			for i := range at {
				h, stop[i] = document.StartStoppable(t, program)
				at[i] = "http://" + h.Address
			}
			d := dialects[language]
			// do runs one more line behind the client, whose list has the servers in that order.
			do := func(line string, order ...int) string {
				t.Helper()
				code := strings.Join(client.Code, "\n")
				for i, server := range order {
					code = strings.ReplaceAll(code, fmt.Sprintf("http://127.0.0.1:733%d", i+1), at[server])
				}
				out, err := d.run(h, append(strings.Split(code, "\n"), line))
				if errors.Is(err, document.ErrSkip) {
					t.Skip(err)
				}
				if err != nil {
					t.Fatal(err)
				}
				return strings.TrimSpace(out)
			}
			get := func(order ...int) (server, key string) {
				t.Helper()
				server, key, _ = strings.Cut(do(fmt.Sprintf(d.get, "job"), order...), " ")
				return server, key
			}

			first, key := get(0, 1, 2)
			if first != at[0] || len(key) != 32 {
				t.Fatalf("the first client got %q %q", first, key)
			}
			if server, _ := get(0, 1, 2); server != "false" {
				t.Errorf("the second client, who sees the same, got the lock at %s", server)
			}
			// The work is saved. But this is no exclusion: a client that does not reach the first server has it too.
			if server, key := get(2, 0, 1); server != at[2] || len(key) != 32 {
				t.Errorf("a client with another view got %q %q", server, key)
			}
			stop[0]()
			second, other := get(0, 1, 2)
			if second != at[1] || len(other) != 32 {
				t.Errorf("after the end of the first server the second client got %q %q", second, other)
			}
			if got := do(fmt.Sprintf(d.release, "job", first, key), 0, 1, 2); got != "false" {
				t.Errorf("release at a server that is gone: %q", got)
			}
			if got := do(fmt.Sprintf(d.release, "job", second, other), 0, 1, 2); got != "true" {
				t.Errorf("release at the second server: %q", got)
			}
			stop[1]()
			if server, _ := get(0, 1, 2); server != "false" {
				t.Errorf("at the third server, where it is held, the lock was got: %s", server)
			}
		})
	}
}
