package fencing

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const page = "docs/fencing.md"

var marked = regexp.MustCompile("(?ms)^<!-- ([a-z][^\n]*) -->\n+```[a-z]+\n(.*?)^```$")

// blocks returns the marked blocks of a page, by their marks.
func blocks(t *testing.T, path string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../..", path))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, m := range marked.FindAllStringSubmatch(string(text), -1) {
		found[m[1]] += m[2]
	}
	return found
}

// recipe returns a block of the page. It is what the tests run.
func recipe(t *testing.T, mark string) string {
	t.Helper()
	text := blocks(t, page)[mark]
	if text == "" {
		t.Fatalf("%s has no block %q any more", page, mark)
	}
	return text
}

// What the pages show of a Go file stands there to the letter, and so is compiled and tested.
func TestPagesShowWhatIsTested(t *testing.T) {
	shown := 0
	for mark, text := range blocks(t, page) {
		file, ok := strings.CutPrefix(mark, "from ")
		if !ok {
			continue
		}
		shown++
		source, err := os.ReadFile(filepath.Join("../..", file))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(source), text) {
			t.Errorf("%s does not have what %s shows of it", file, page)
		}
	}
	if shown < 2 {
		t.Errorf("only %d files are shown", shown)
	}
}
