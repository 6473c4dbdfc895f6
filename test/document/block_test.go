package document

import (
	"strings"
	"testing"
)

func TestFindBlocks(t *testing.T) {
	text := strings.Join([]string{
		"```sh", "not run", "```", RunMark, "```sh", "echo 1  # → 1  (one)", "```", "text", RunMark, "", "```python", "```",
	}, "\n")
	blocks, err := Find(text)
	if err != nil || len(blocks) != 2 || blocks[0].Line != 6 || blocks[1].Language != "python" {
		t.Fatalf("got %+v, %v", blocks, err)
	}
	if p := blocks[0].promises(); len(p) != 1 || len(p[0].want) != 1 || p[0].want[0] != "1" {
		t.Errorf("got the promises %+v", p)
	}
	for _, broken := range []string{RunMark, RunMark + "\ntext", RunMark + "\n```sh\necho"} {
		if _, err := Find(broken); err == nil {
			t.Errorf("%q has no runnable block", broken)
		}
	}
}
