//go:build linux

package e2e

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// The wall clock decides nothing. These tests hold that against the source: the lock table and the commands know no
// clock at all, and the node uses its own only for differences, which Go takes from the monotonic clock.

// parseRoom returns the files of a package, without its tests.
func parseRoom(t *testing.T, dir string) (*token.FileSet, []*ast.File) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	set := token.NewFileSet()
	var files []*ast.File
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(set, path, nil, 0)
		if os.IsNotExist(err) {
			continue // somebody is working on it
		}
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	if len(files) < 2 {
		t.Fatalf("there are only %d files in %s", len(files), dir)
	}
	return set, files
}

// selectors calls f for each x.Name in the files.
func selectors(files []*ast.File, f func(s *ast.SelectorExpr, pkg string)) {
	for _, file := range files {
		ast.Inspect(file, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok {
				pkg := ""
				if x, ok := s.X.(*ast.Ident); ok && imports(file, x.Name) {
					pkg = x.Name
				}
				f(s, pkg)
			}
			return true
		})
	}
}

// imports tells whether the file imports a package whose path ends with name, under its own name.
func imports(file *ast.File, name string) bool {
	for _, i := range file.Imports {
		path, _ := strconv.Unquote(i.Path.Value)
		if i.Name == nil && filepath.Base(path) == name {
			return true
		}
	}
	return false
}

// clockReaders are the functions of package time that look at a clock or wait for one.
var clockReaders = map[string]bool{
	"Now": true, "Since": true, "Until": true, "After": true, "AfterFunc": true, "Tick": true, "NewTicker": true,
	"NewTimer": true, "Sleep": true,
}

func TestTheTableHasNoClock(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{"../../internal/locktable", "../../internal/command"} {
		set, files := parseRoom(t, dir)
		durations := 0
		selectors(files, func(s *ast.SelectorExpr, pkg string) {
			if pkg == "time" && clockReaders[s.Sel.Name] {
				t.Errorf("%s: time.%s", set.Position(s.Pos()), s.Sel.Name)
			}
			if pkg == "time" {
				durations++
			}
		})
		if dir == "../../internal/locktable" && durations == 0 {
			t.Error("the lock table uses no time at all; the test looks at the wrong files")
		}
	}
}

// wallClockUses are the methods of time.Time that give away the wall clock, or drop the monotonic reading.
var wallClockUses = map[string]bool{
	"Unix": true, "UnixMilli": true, "UnixMicro": true, "UnixNano": true, "Date": true, "Clock": true, "UTC": true, "Local": true, "In": true, "Hour": true, "Weekday": true, "YearDay": true,
	"Round": true, "MarshalBinary": true, "MarshalJSON": true, "MarshalText": true, "AddDate": true,
}

// A reading of the clock may be made in these places of the node only: each is the start of a difference.
var readsInNode = map[string]string{
	"raftlog.go":  "complaints that repeat themselves are told once in a while",
	"clock.go":    "the leader's clock counts from when it took office",
	"stall.go":    "how long an entry is on its way",
	"handover.go": "how long raft has refused office",
	"fsm.go":      "how long ago anything was applied",
	"gateway.go":  "how long a batch is on its way to the leader",
	// For people to read.
	"backup.go": "when a backup was made",
	// The calendar of the cluster is for people and schedules; no lifetime depends on it.
	"calendar.go": "the wall clock that the calendar follows",
	// A deadline on the monotonic clock, which outlives the function that set it.
	"wait.go":      "until when taking back is tried again, and since when a client waits",
	"proposer.go":  "the same",
	"slice.go":     "until when a request stays whose place another one has",
	"unfetched.go": "until when a grant waits for its client",
}

func TestTheNodeUsesDifferencesOnly(t *testing.T) {
	t.Parallel()
	set, files := parseRoom(t, "../../internal/node")
	deadlines := 0
	selectors(files, func(s *ast.SelectorExpr, pkg string) {
		at := set.Position(s.Pos())
		switch {
		case pkg == "time" && (s.Sel.Name == "Unix" || s.Sel.Name == "Date" || s.Sel.Name == "Parse"):
			t.Errorf("%s: time.%s makes a time without a monotonic reading", at, s.Sel.Name)
		case pkg == "" && wallClockUses[s.Sel.Name] && filepath.Base(at.Filename) != "calendar.go":
			t.Errorf("%s: %s looks at the wall clock", at, s.Sel.Name)
		case pkg == "time" && s.Sel.Name == "Now":
			deadlines++
			if readsInNode[filepath.Base(at.Filename)] == "" && !onlySince(files, s) {
				t.Errorf("%s: time.Now is used for something else than a difference", at)
			}
		}
	})
	if deadlines == 0 {
		t.Error("no reading of the clock was found")
	}
}

// onlySince tells whether the reading is put in a variable that is only passed to time.Since.
func onlySince(files []*ast.File, now *ast.SelectorExpr) bool {
	for _, file := range files {
		if now.Pos() < file.Pos() || now.Pos() > file.End() {
			continue
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Pos() <= now.Pos() && now.Pos() <= f.End() {
				return sinceOf(f, now)
			}
		}
	}
	return false
}

func sinceOf(f *ast.FuncDecl, now *ast.SelectorExpr) bool {
	name := ""
	uses, since := 0, 0
	var look func(n ast.Node) bool
	look = func(n ast.Node) bool {
		switch x := n.(type) {
		case *ast.SelectorExpr:
			ast.Inspect(x.X, look) // the name behind the dot is no variable
			return false
		case *ast.AssignStmt:
			if call, ok := x.Rhs[0].(*ast.CallExpr); ok && call.Fun == ast.Expr(now) {
				if id, ok := x.Lhs[0].(*ast.Ident); ok {
					name = id.Name
				}
			}
		case *ast.CallExpr:
			if s, ok := x.Fun.(*ast.SelectorExpr); ok && s.Sel.Name == "Since" && len(x.Args) == 1 {
				if id, ok := x.Args[0].(*ast.Ident); ok && id.Name == name {
					since++
				}
			}
		case *ast.Ident:
			if x.Name == name && name != "" {
				uses++
			}
		}
		return true
	}
	ast.Inspect(f, look)
	// Each use but the assignment itself is an argument of Since.
	return since > 0 && uses <= since+1
}
