package locktable

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/doubledutch-lock/doubledutch/internal/command"
)

// minScripts is the number of golden scripts below which something went missing.
const minScripts = 100

func scripts(tb testing.TB) []string {
	tb.Helper()
	files, err := filepath.Glob("testdata/*/*.script")
	if err != nil {
		tb.Fatal(err)
	}
	if len(files) < minScripts {
		tb.Fatalf("%d golden scripts, expected at least %d", len(files), minScripts)
	}
	return files
}

// TestGolden runs each script against the table.
func TestGolden(t *testing.T) {
	for _, f := range scripts(t) {
		t.Run(scriptName(f), func(t *testing.T) { runScript(t, f, newTableScript(scriptLevel(f))) })
	}
}

// TestGoldenRestored runs each script on a table that is written out and read back after every step.
func TestGoldenRestored(t *testing.T) {
	for _, f := range scripts(t) {
		t.Run(scriptName(f), func(t *testing.T) {
			s := newTableScript(scriptLevel(f))
			runScriptWith(t, f, s, func() error {
				n, err := s.restore(s.subject)
				s.subject = n
				return err
			})
		})
	}
}

// TestGoldenModel runs each script against the naive model, so that scripts and model judge each other.
func TestGoldenModel(t *testing.T) {
	for _, f := range scripts(t) {
		t.Run(scriptName(f), func(t *testing.T) {
			m := newModel(testSettings())
			m.level = scriptLevel(f)
			runScript(t, f, &script{
				subject: m,
				restore: func(s subject) (subject, error) { return s, nil },
				replay:  func() error { return nil },
			})
		})
	}
}

// TestGoldenComments insists that each script says in words which rule it shows.
func TestGoldenComments(t *testing.T) {
	for _, f := range scripts(t) {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(data), "# ") || !strings.Contains(string(data), "\n> ") {
			t.Errorf("%s: a script begins with a comment and has steps", f)
		}
	}
}

func scriptName(file string) string {
	return strings.TrimSuffix(strings.TrimPrefix(filepath.ToSlash(file), "testdata/"), ".script")
}

// scriptLevel is the level at which a script begins: 2 if its directory is about what came with version 2, and otherwise 1, so
// that what these scripts say stays as it was.
func scriptLevel(file string) uint32 {
	if slices.Contains([]string{"sets", "deadlock", "asking", "breaking", "handover", "history", "calendar", "tasks", "schedules"}, filepath.Base(filepath.Dir(file))) {
		return 2
	}
	return 1
}

type logEntry struct {
	now  Time
	cmds []*command.Command
}

// newTableScript returns a script on a fresh table that checks invariants after each entry and keeps the log for replays.
func newTableScript(level uint32) *script {
	var log []logEntry
	begin := func() *Table {
		t := New(testSettings())
		t.level = level
		return t
	}
	s := &script{subject: begin()}
	s.onEntry = func(now Time, cmds []*command.Command) error {
		log = append(log, logEntry{now, cmds})
		return s.subject.(*Table).CheckInvariants()
	}
	s.restore = func(x subject) (subject, error) { return snapshotRestore(x.(*Table)) }
	s.replay = func() error {
		twin := begin()
		for _, e := range log {
			twin.Apply(e.now, e.cmds)
		}
		if twin.Hash() != s.subject.(*Table).Hash() {
			return errors.New("a replay of the log gives another hash")
		}
		return nil
	}
	return s
}

func runScript(t *testing.T, file string, s *script) {
	t.Helper()
	runScriptWith(t, file, s, func() error { return nil })
}

func runScriptWith(t *testing.T, file string, s *script, after func() error) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	for i := 0; i < len(lines); {
		step, ok := strings.CutPrefix(lines[i], "> ")
		at := i + 1
		i++
		if !ok {
			if lines[at-1] != "" && !strings.HasPrefix(lines[at-1], "#") {
				t.Fatalf("%s:%d: expected a comment or a step", file, at)
			}
			continue
		}
		var want []string
		for ; i < len(lines) && lines[i] != "" && !strings.HasPrefix(lines[i], "> ") && !strings.HasPrefix(lines[i], "#"); i++ {
			want = append(want, lines[i])
		}
		out, err := s.step(step)
		err = errors.Join(err, after())
		got := strings.FieldsFunc(out, func(r rune) bool { return r == '\n' })
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("%s:%d: %s%s\n--- expected\n%s\n--- got\n%s", file, at, step, errText(err), strings.Join(want, "\n"), strings.Join(got, "\n"))
		}
	}
	if err := s.replay(); err != nil {
		t.Fatal(err)
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return fmt.Sprintf("\nerror: %v", err)
}
