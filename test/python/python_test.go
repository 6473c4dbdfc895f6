//go:build linux

package python

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/doubledutch-lock/doubledutch/test/rig"
)

const client = "../../clients/python"

// patience is a deadline that only something that hangs will miss.
const patience = 8 * time.Minute

// outcome is a line that the Python tests print when one of them has ended.
type outcome struct {
	Test    string  `json:"test"`
	Outcome string  `json:"outcome"` // ok, failed, skipped; end after the last
	Text    string  `json:"text"`
	Seconds float64 `json:"seconds"`
}

// missing skips a test; in CI it fails instead.
func missing(t *testing.T, program string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("There is no %s on this machine; .ci/run has to install it.", program)
	}
	t.Skipf("SKIP: there is no %s", program)
}

// python returns the interpreter.
func python(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("python3")
	if err != nil {
		missing(t, "python3")
	}
	return path
}

// TestPythonClient runs the tests of the client, each as a test of its own.
func TestPythonClient(t *testing.T) {
	t.Parallel()
	interpreter := python(t)
	program := filepath.Join(t.TempDir(), "doubledutch")
	if err := rig.Build(program); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, interpreter, "-m", "tests")
	cmd.Dir = client
	cmd.Env = append(environment(), "DOUBLEDUTCH_PROGRAM="+program, "PYTHONDONTWRITEBYTECODE=1")
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ran, ended := report(t, bufio.NewScanner(out))
	if err := cmd.Wait(); err != nil || !ended {
		t.Errorf("The Python tests did not come to their end: %v\n%s", err, complaints.String())
	}
	if ran < 120 { // without a program to test there would be some 90
		t.Errorf("only %d Python tests were run", ran)
	}
}

// report tells what came of the tests, and returns how many were run, and whether they came to their end.
func report(t *testing.T, lines *bufio.Scanner) (ran int, ended bool) {
	t.Helper()
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var o outcome
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			t.Errorf("a line cannot be read: %v: %s", err, lines.Text())
			continue
		}
		if o.Outcome == "end" {
			ended = true
			continue
		}
		t.Run(strings.TrimPrefix(o.Test, "tests."), func(t *testing.T) {
			switch o.Outcome {
			case "ok":
				ran++
			case "skipped":
				t.Skip("SKIP: " + o.Text)
			default:
				t.Errorf("after %.1f s: %s", o.Seconds, o.Text)
			}
		})
	}
	if err := lines.Err(); err != nil {
		t.Error(err)
	}
	return ran, ended
}

// environment is that of this process without any setting of the program.
func environment() []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "DOUBLEDUTCH_") {
			env = append(env, v)
		}
	}
	return env
}

// TestPythonTypes checks the types of the client, as strictly as can be and for the oldest Python that it supports.
func TestPythonTypes(t *testing.T) {
	t.Parallel()
	mypy := "/usr/bin/mypy" // that of the distribution
	if _, err := os.Stat(mypy); err != nil {
		if mypy, err = exec.LookPath("mypy"); err != nil {
			missing(t, "mypy")
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, mypy, "--cache-dir", t.TempDir())
	cmd.Dir = client
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("mypy: %v\n%s", err, out)
	}
}
