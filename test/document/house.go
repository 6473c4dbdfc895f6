package document

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Patience is a deadline that only something that hangs will miss.
const Patience = time.Minute

// Root is the repository as seen from the tests, which all lie two directories below.
const Root = "../.."

// House is where blocks are run: a server, and the words of the documents that stand for it. The blocks of a house work in one
// directory, which is removed at the end of the test.
type House struct {
	// Address is that of the server, with host and port.
	Address string
	// Program is the path of the binary.
	Program string
	// Python is an interpreter that has the modules requests and what else the blocks need; empty: there is none.
	Python string
	// Env is what blocks have in their environment beside that of the tests. The later of two settings counts.
	Env []string

	dir string
}

// Build builds the program into a file.
func Build(to string) error {
	to, err := filepath.Abs(to)
	if err != nil {
		return err
	}
	if out, err := exec.Command("go", "build", "-C", Root, "-o", to, "./cmd/doubledutch").CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w: %s", err, out)
	}
	return nil
}

var servesOn = regexp.MustCompile(`serves on http://(\S+)`)

// Start runs a server of the program in a new directory until the end of the test, and expects it to stop in peace.
func Start(t *testing.T, program string) *House {
	t.Helper()
	h, _ := StartStoppable(t, program)
	return h
}

// StartStoppable is Start with a function that stops the server before the end of the test.
func StartStoppable(t *testing.T, program string) (h *House, stop func()) {
	t.Helper()
	cmd := exec.Command(program, "serve", "--listen", "127.0.0.1:0", "--data-dir", filepath.Join(t.TempDir(), "data"))
	cmd.Env = Environment()
	var log bytes.Buffer
	cmd.Stderr = &log
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	hang := time.AfterFunc(Patience, func() { _ = cmd.Process.Kill() })
	stop = sync.OnceFunc(func() {
		defer hang.Stop()
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the server did not stop in peace: %v\n%s", err, log.String())
		}
	})
	t.Cleanup(stop)
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if m := servesOn.FindStringSubmatch(lines.Text()); m != nil {
			return &House{Address: m[1], Program: program, Python: Python("requests"), dir: t.TempDir()}, stop
		}
	}
	t.Fatalf("the server did not come up:\n%s", log.String())
	return nil, nil
}

// environment is that of the tests without any setting of the program.
func Environment() []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "DOUBLEDUTCH_") {
			env = append(env, v)
		}
	}
	return env
}

// Python returns an interpreter that has some modules, or "".
func Python(modules ...string) string {
	for _, name := range []string{"/usr/bin/python3", "python3"} {
		if exec.Command(name, "-c", "import "+strings.Join(modules, ", ")).Run() == nil {
			return name
		}
	}
	return ""
}
