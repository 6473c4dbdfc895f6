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

// block is a marked block of a page.
type block struct{ mark, text string }

func findBlocks(t *testing.T, path string) []block {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../..", path))
	if err != nil {
		t.Fatal(err)
	}
	var found []block
	for _, m := range marked.FindAllStringSubmatch(string(text), -1) {
		found = append(found, block{m[1], m[2]})
	}
	return found
}

// recipe returns a block of the page. It is what the tests run.
func recipe(t *testing.T, mark string) string {
	t.Helper()
	for _, b := range findBlocks(t, page) {
		if b.mark == mark {
			return b.text
		}
	}
	t.Fatalf("%s has no block %q any more", page, mark)
	return ""
}

// What the pages show of a Go file stands there to the letter, and so is compiled and tested.
func TestPagesShowWhatIsTested(t *testing.T) {
	for path, least := range map[string]int{page: 2, "docs/testing-your-program.md": 6} {
		shown := 0
		for _, m := range findBlocks(t, path) {
			file, ok := strings.CutPrefix(m.mark, "from ")
			if !ok {
				continue
			}
			shown++
			source, err := os.ReadFile(filepath.Join("../..", file))
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(source), m.text) {
				t.Errorf("%s does not have what %s shows of it:\n%s", file, path, m.text)
			}
		}
		if shown < least {
			t.Errorf("%s shows only %d pieces of files", path, shown)
		}
	}
}
