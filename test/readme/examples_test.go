package readme

import (
	"context"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/doubledutch-lock/doubledutch/test/document"
)

// example runs a script of examples/ against a server of its own, and returns the lines that it printed, sorted: who is first
// is not known before.
func example(t *testing.T, script string, needs ...string) []string {
	t.Helper()
	for _, need := range append(needs, "sh") {
		if _, err := exec.LookPath(need); err != nil {
			t.Skip(err)
		}
	}
	h := startServer(t)
	ctx, cancel := context.WithTimeout(t.Context(), document.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", filepath.Join("..", "..", "examples", script))
	for _, v := range document.Environment() {
		if path, ok := strings.CutPrefix(v, "PATH="); ok {
			v = "PATH=" + filepath.Dir(h.Program) + ":" + path
		}
		cmd.Env = append(cmd.Env, v)
	}
	cmd.Env = append(cmd.Env, "DOUBLEDUTCH_SERVER=http://"+h.Address)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	slices.Sort(lines)
	return lines
}

// having counts the lines with a text.
func having(lines []string, text string) (n int) {
	for _, l := range lines {
		if strings.Contains(l, text) {
			n++
		}
	}
	return n
}

func TestExampleMigrate(t *testing.T) {
	t.Parallel()
	lines := example(t, "migrate.sh")
	if len(lines) != 4 || having(lines, "migrates") != 1 || having(lines, "starts, schema is at version 42") != 3 {
		t.Errorf("it printed\n%s", strings.Join(lines, "\n"))
	}
}

func TestExampleNightly(t *testing.T) {
	t.Parallel()
	lines := example(t, "nightly.sh")
	if len(lines) != 5 || having(lines, "runs the job") != 1 || having(lines, "has nothing to do") != 4 {
		t.Errorf("it printed\n%s", strings.Join(lines, "\n"))
	}
}
