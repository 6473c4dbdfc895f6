package readme

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
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
	build := exec.Command("go", "build", "-o", program, "../../cmd/doubledutch")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
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
	{"README.md", map[string]int{"sh": 4, "python": 1}},
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
			blocks := read(t, d.path)
			count := map[string]int{}
			for _, b := range blocks {
				count[b.language]++
			}
			for language, least := range d.blocks {
				if count[language] < least {
					t.Fatalf("only %d blocks of %s are marked as runnable, of at least %d", count[language], language, least)
				}
			}
			h := startServer(t)
			for _, b := range blocks {
				t.Run(fmt.Sprintf("line_%d", b.line), func(t *testing.T) { check(t, h, &b) })
			}
		})
	}
}

func read(t *testing.T, path string) []block {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", path))
	if err != nil {
		t.Fatal(err)
	}
	blocks, err := findBlocks(string(text))
	if err != nil {
		t.Fatal(err)
	}
	return blocks
}

func check(t *testing.T, h *house, b *block) {
	t.Helper()
	err := h.run(b)
	switch {
	case errors.Is(err, errSkip):
		t.Skip(err)
	case err != nil:
		t.Error(err)
	}
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
			err := h.run(&block{line: 1, language: lie.language, code: strings.Split(lie.code, "\n")})
			if errors.Is(err, errSkip) {
				t.Skip(err)
			}
			if err == nil || !strings.Contains(err.Error(), lie.complaint) {
				t.Errorf("got %v, want a complaint that says %q", err, lie.complaint)
			}
		})
	}
}

func TestFindBlocks(t *testing.T) {
	text := strings.Join([]string{
		"```sh", "not run", "```", runMark, "```sh", "echo 1  # → 1  (one)", "```", "text", runMark, "", "```python", "```",
	}, "\n")
	blocks, err := findBlocks(text)
	if err != nil || len(blocks) != 2 || blocks[0].line != 6 || blocks[1].language != "python" {
		t.Fatalf("got %+v, %v", blocks, err)
	}
	if p := blocks[0].promises(); len(p) != 1 || len(p[0].want) != 1 || p[0].want[0] != "1" {
		t.Errorf("got the promises %+v", p)
	}
	for _, broken := range []string{runMark, runMark + "\ntext", runMark + "\n```sh\necho"} {
		if _, err := findBlocks(broken); err == nil {
			t.Errorf("%q has no runnable block", broken)
		}
	}
}
