package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/doubledutch-lock/doubledutch/cmd/doubledutch/exitcode"
)

// TestHandbookKnowsFlagsAndCodes: every flag of serve and every exit code is in the documents for operators.
func TestHandbookKnowsFlagsAndCodes(t *testing.T) {
	var book string
	for _, page := range []string{"operations.md", "cluster.md"} {
		text, err := os.ReadFile("../../docs/" + page)
		if err != nil {
			t.Fatal(err)
		}
		book += string(text)
	}
	out := doubledutch(t, "serve", "--help").check(exitcode.OK, "--data-dir").out
	flags := 0
	for line := range strings.Lines(out) {
		words := strings.Fields(line)
		if len(words) == 0 || !strings.HasPrefix(line, "      --") {
			continue
		}
		flags++
		if flag, _, _ := strings.Cut(words[0], "="); !strings.Contains(book, flag) {
			t.Errorf("no page explains %s", flag)
		}
	}
	if flags < 20 {
		t.Fatalf("only %d flags were found", flags)
	}
	for _, m := range exitcode.Meanings {
		inTable := strings.Contains(book, fmt.Sprintf("\n| %d |", m.Code))
		if !inTable && !strings.Contains(book, fmt.Sprintf(", %d (", m.Code)) {
			t.Errorf("no page explains exit code %d", m.Code)
		}
	}
}
