package document

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// Block is one runnable piece of a document.
type Block struct {
	Line     int // of its first line of code, from 1
	Language string
	Code     []string
}

const (
	// RunMark is the line before a block that is run.
	RunMark = "<!-- run -->"
	fence   = "```"
	arrow   = "# → "
	goArrow = "// → "
)

// Read returns the runnable blocks of a file of the repository.
func Read(path string) ([]Block, error) {
	text, err := os.ReadFile(filepath.Join(Root, path))
	if err != nil {
		return nil, err
	}
	return Find(string(text))
}

// Find returns the blocks of a document that are marked as runnable.
func Find(text string) ([]Block, error) {
	var found []Block
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); i++ {
		if strings.TrimSpace(lines[i]) != RunMark {
			continue
		}
		at := i + 1
		for at < len(lines) && strings.TrimSpace(lines[at]) == "" {
			at++
		}
		if at == len(lines) || !strings.HasPrefix(lines[at], fence) {
			return nil, fmt.Errorf("line %d: no block follows the mark", i+1)
		}
		b := Block{Line: at + 2, Language: strings.TrimPrefix(lines[at], fence)}
		for i = at + 1; i < len(lines) && lines[i] != fence; i++ {
			b.Code = append(b.Code, lines[i])
		}
		if i == len(lines) {
			return nil, fmt.Errorf("line %d: the block does not end", b.Line)
		}
		found = append(found, b)
	}
	return found, nil
}

// promise is what the lines that belong together say will be printed.
type promise struct {
	line int // in the document, of the last of its lines
	want []string
}

// promiseOf returns what a line of code promises. alone says that there is nothing else on the line.
func promiseOf(line string) (want string, alone, found bool) {
	before, want, found := strings.Cut(line, arrow)
	if !found {
		before, want, found = strings.Cut(line, goArrow)
	}
	if !found {
		return "", false, false
	}
	want, _, _ = strings.Cut(want, "  (")
	return strings.TrimRight(want, " "), strings.TrimSpace(before) == "", true
}

// promises returns all promises of the block; a promise that stands alone on its line goes on with the one above it.
func (b *Block) promises() []promise {
	var all []promise
	above := false
	for i, line := range b.Code {
		want, alone, found := promiseOf(line)
		switch {
		case found && alone && above:
			last := &all[len(all)-1]
			last.want, last.line = append(last.want, want), b.Line+i
		case found:
			all = append(all, promise{line: b.Line + i, want: []string{want}})
		}
		above = found
	}
	return all
}

// fits tells whether got is what a promise says.
func fits(want, got []string) bool {
	if len(want) != len(got) {
		return false
	}
	for i, w := range want {
		pattern := strings.ReplaceAll(regexp.QuoteMeta(w), "…", ".*")
		if !regexp.MustCompile("^" + pattern + "$").MatchString(got[i]) {
			return false
		}
	}
	return true
}

// printed splits output into its lines; there are none if nothing but white space was printed.
func printed(output string) []string {
	output = strings.TrimSpace(output)
	if output == "" {
		return nil
	}
	lines := strings.Split(output, "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " \r")
	}
	return lines
}
