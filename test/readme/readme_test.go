package readme

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/doubledutch-lock/doubledutch/test/document"
)

// program is the built binary.
var program string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "doubledutch-readme")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	program = filepath.Join(dir, "doubledutch")
	if err := document.Build(program); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// documents are the files whose blocks are run, with how many there are of each language at least: a mark that was lost
// would otherwise not be missed.
var documents = []struct {
	path   string
	blocks map[string]int
}{
	{"README.md", map[string]int{"sh": 4, "python": 2}},
	{"docs/api.md", map[string]int{"sh": 10, "python": 1}},
	{"docs/clients-go.md", map[string]int{"go": 7}},
	{"docs/fencing.md", map[string]int{"sh": 1}},
	{"docs/tasks.md", map[string]int{"sh": 2}},
	{"docs/elections.md", map[string]int{"sh": 1}},
	{"docs/run.md", map[string]int{"sh": 3}},
	{"docs/who-holds-it.md", map[string]int{"sh": 5}},
	{"docs/guides/migration.md", map[string]int{"sh": 2, "python": 1, "go": 1}},
	{"docs/guides/cron.md", map[string]int{"sh": 2, "python": 1, "go": 1}},
	{"docs/guides/leader.md", map[string]int{"sh": 2, "python": 1, "go": 1}},
	{"docs/guides/workers.md", map[string]int{"sh": 2, "python": 1, "go": 1}},
	{"docs/clients-python.md", map[string]int{"python": 9}},
}

func TestDocumentsAreTrue(t *testing.T) {
	for _, d := range documents {
		t.Run(strings.ReplaceAll(d.path, "/", "_"), func(t *testing.T) {
			t.Parallel()
			document.Test(t, startServer(t), d.path, d.blocks)
		})
	}
}

// startServer is document.Start with the built binary.
func startServer(t *testing.T) *document.House {
	t.Helper()
	return document.Start(t, program)
}

// TestUntruthIsFound shows that a document that promises something wrong fails.
func TestUntruthIsFound(t *testing.T) {
	t.Parallel()
	h := startServer(t)
	for _, lie := range []struct{ name, language, code, complaint string }{
		{"another answer", "sh", "curl -s http://127.0.0.1:7333/releaseLock/a/b  # → released", `but ["false"] was printed`},
		{"only the second is wrong", "sh", "echo a # → a\necho b # → c", `line 2 promises ["c"]`},
		{"more lines", "sh", "printf 'a\\nb\\n'\n# → a", "promises"},
		{"fewer lines", "sh", "echo a\n# → a\n# → b", "promises"},
		{"output before", "sh", "echo x\necho a # → a", "promises"},
		{"output behind", "sh", "echo a # → a\necho b", "nobody promised"},
		{"failing command", "sh", "false\necho a # → a", "line 2 was not reached"},
		{"failing end", "sh", "echo a # → a\nfalse", "exit status 1"},
		{"no promise", "sh", "echo a", "promises nothing"},
		{"wildcard within a line only", "sh", "printf 'a\\nb\\n'\n# → a…", "promises"},
		{"python", "python", "print(1)  # → 2", `but ["1"] was printed`},
		{"python fails", "python", "print(1)  # → 1\nraise SystemExit(3)", "exit status 3"},
		{"go", "go", "package main\nfunc main() { print() } // → 2", `but [] was printed`},
		{"go does not build", "go", "package main\nfunc main() { x } // → 2", "undefined: x"},
		{"another language", "sql", "SELECT 1; # → 1", "cannot be run"},
	} {
		t.Run(lie.name, func(t *testing.T) {
			err := h.Run(&document.Block{Line: 1, Language: lie.language, Code: strings.Split(lie.code, "\n")})
			if errors.Is(err, document.ErrSkip) {
				t.Skip(err)
			}
			if err == nil || !strings.Contains(err.Error(), lie.complaint) {
				t.Errorf("got %v, want a complaint that says %q", err, lie.complaint)
			}
		})
	}
}
