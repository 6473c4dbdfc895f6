// Command testsum reads the output of `go test -json` and prints what a person wants to see of it: the line of each
// package as go test prints it, everything that a failed test printed, every skipped test with its reason, and at the
// end how many tests passed, failed and were skipped. It exits 1 if anything failed or nothing ran.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
)

func main() {
	s := newSummary(os.Stdout)
	if err := s.read(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "testsum:", err)
		os.Exit(1)
	}
	if !s.finish() {
		os.Exit(1)
	}
}

// event is one line of `go test -json`.
type event struct {
	Action     string
	Package    string
	ImportPath string
	Test       string
	Output     string
}

// summary is what is known of the run so far.
type summary struct {
	out io.Writer
	// What each unfinished test printed, by package and test.
	printed map[string]*strings.Builder
	// Skipped tests, with what they printed.
	skips []string

	passed, failed, skipped int
	broken                  int // packages that failed, did not build or did not end
}

func newSummary(out io.Writer) *summary {
	return &summary{out: out, printed: map[string]*strings.Builder{}}
}

// read takes in events until the end of r. Lines that are not events (go's own messages) are passed on.
func (s *summary) read(r io.Reader) error {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			s.line(line)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (s *summary) line(line string) {
	var e event
	if json.Unmarshal([]byte(line), &e) != nil || e.Action == "" {
		s.print(line)
		return
	}
	switch {
	case e.Action == "build-output":
		s.print(e.Output)
	case e.Test == "":
		s.packageEvent(e)
	default:
		s.testEvent(e)
	}
}

// packageEvent prints the package's own lines, except the PASS before its ok.
func (s *summary) packageEvent(e event) {
	switch e.Action {
	case "output":
		if e.Output != "PASS\n" {
			s.print(e.Output)
		}
	case "fail":
		s.broken++
		s.printUnfinished(e.Package)
	}
}

func (s *summary) testEvent(e event) {
	id := e.Package + " " + e.Test
	switch e.Action {
	case "output":
		if s.printed[id] == nil {
			s.printed[id] = &strings.Builder{}
		}
		s.printed[id].WriteString(e.Output)
		return
	case "pass":
		s.passed++
	case "fail":
		s.failed++
		s.print(s.text(id))
	case "skip":
		s.skipped++
		s.skips = append(s.skips, id+": "+reason(s.text(id)))
	default:
		return
	}
	delete(s.printed, id)
}

// printUnfinished prints the output of the tests of a failed package that never ended: a panic or a time-out.
func (s *summary) printUnfinished(pkg string) {
	for id, text := range s.printed {
		if strings.HasPrefix(id, pkg+" ") {
			s.print(text.String())
			delete(s.printed, id)
		}
	}
}

func (s *summary) text(id string) string {
	if b := s.printed[id]; b != nil {
		return b.String()
	}
	return ""
}

// reason is what a skipped test said, on one line.
func reason(text string) string {
	var words []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "===") && !strings.HasPrefix(line, "---") {
			words = append(words, line)
		}
	}
	return strings.Join(words, " ")
}

// finish prints the totals and tells whether all is well.
func (s *summary) finish() bool {
	for _, skip := range s.skips {
		s.print("skipped: " + skip + "\n")
	}
	s.print(fmt.Sprintf("%d passed, %d failed, %d skipped\n", s.passed, max(s.failed, s.broken), s.skipped))
	return s.failed == 0 && s.broken == 0 && s.passed > 0
}

func (s *summary) print(text string) { _, _ = io.WriteString(s.out, text) }
