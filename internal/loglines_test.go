package internal_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// logLines finds what the program logs at level info and above, by message. A message that is put together when it is
// logged ends in "…".
func logLines(t *testing.T) map[string]string {
	t.Helper()
	lines := map[string]string{}
	for _, root := range []string{".", "../cmd"} {
		err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if call, ok := n.(*ast.CallExpr); ok {
					if message := logged(t, path, call); message != "" {
						lines[message] = path
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return lines
}

// logged returns the message if call writes one to a logger.
func logged(t *testing.T, path string, call *ast.CallExpr) string {
	t.Helper()
	method, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || !slices.Contains([]string{"Info", "Warn", "Error"}, method.Sel.Name) || len(call.Args) == 0 {
		return ""
	}
	to := ""
	switch x := method.X.(type) {
	case *ast.Ident:
		to = x.Name
	case *ast.SelectorExpr:
		to = x.Sel.Name
	}
	if !slices.Contains([]string{"log", "logger", "Logger"}, to) {
		return ""
	}
	message := text(call.Args[0])
	if message == "" {
		t.Errorf("%s: the message of a log line cannot be read", path)
	}
	return message
}

// text is a string as far as it is known before it is run.
func text(e ast.Expr) string {
	switch x := e.(type) {
	case *ast.BasicLit:
		s, _ := strconv.Unquote(x.Value)
		return s
	case *ast.BinaryExpr:
		return text(x.X) + "…"
	case *ast.Ident: // a constant of the same function
		if x.Obj != nil {
			if spec, ok := x.Obj.Decl.(*ast.ValueSpec); ok && len(spec.Values) == 1 {
				return text(spec.Values[0])
			}
		}
	}
	return ""
}

var (
	// Tables whose first column is headed "line" list log lines; several may share a row.
	lineTable = regexp.MustCompile(`(?m)^\| line \|.*\n\|[-|]+\|\n((?:\|.*\n)+)`)
	quoted    = regexp.MustCompile("`([^`]+)`")
)

// documentedLines are those of the tables, without what stands in parentheses behind them.
func documentedLines(t *testing.T, paths ...string) []string {
	t.Helper()
	var lines []string
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, table := range lineTable.FindAllStringSubmatch(string(text), -1) {
			for row := range strings.Lines(table[1]) {
				cell := strings.Split(row, "|")[1]
				cell = regexp.MustCompile(`\([^)]*\)`).ReplaceAllStringFunc(cell, func(in string) string {
					if strings.Contains(in, "`") {
						return ""
					}
					return in
				})
				for _, m := range quoted.FindAllStringSubmatch(cell, -1) {
					lines = append(lines, m[1])
				}
			}
		}
	}
	return lines
}

// isLine tells whether a document's line, which may end in "…", is the program's.
func isLine(documented, logged string) bool {
	before, cut := strings.CutSuffix(documented, "…")
	return documented == logged || cut && strings.HasPrefix(logged, before)
}

// TestLogLinesAreDocumented: an operator who meets a line at level info or above finds it in the documents, and the
// documents tell of no line that is not there.
func TestLogLinesAreDocumented(t *testing.T) {
	lines := logLines(t)
	if len(lines) < 30 {
		t.Fatalf("only %d lines were found: %v", len(lines), lines)
	}
	documented := documentedLines(t, "../docs/operations.md", "../docs/cluster.md")
	for line, path := range lines {
		if !slices.ContainsFunc(documented, func(d string) bool { return isLine(d, line) }) {
			t.Errorf("%s logs %q, which no document explains", path, line)
		}
	}
	for _, d := range documented {
		found := strings.HasPrefix(d, "component=")
		for line := range lines {
			found = found || isLine(d, line)
		}
		if !found {
			t.Errorf("the documents explain %q, which nobody logs", d)
		}
	}
}
