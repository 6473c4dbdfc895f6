package readme

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is a deadline that only something that hangs will miss.
const patience = time.Minute

// house is where blocks are run: a server, and the words of the documents that stand for it.
type house struct {
	address, program string
	python           string // empty: none has the module requests
}

var servesOn = regexp.MustCompile(`serves on http://(\S+)`)

// startServer runs a server in a new directory until the end of the test, and expects it to stop in peace.
func startServer(t *testing.T) *house {
	t.Helper()
	h, _ := startStoppable(t)
	return h
}

// startStoppable is startServer with a function that stops the server before the end of the test.
func startStoppable(t *testing.T) (h *house, stop func()) {
	t.Helper()
	cmd := exec.Command(program, "serve", "--listen", "127.0.0.1:0", "--data-dir", filepath.Join(t.TempDir(), "data"))
	cmd.Env = environment()
	var log bytes.Buffer
	cmd.Stderr = &log
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	hang := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
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
			return &house{address: m[1], program: program, python: findPython()}, stop
		}
	}
	t.Fatalf("the server did not come up:\n%s", log.String())
	return nil, nil
}

// environment is that of the tests without any setting of the program.
func environment() []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "DOUBLEDUTCH_") {
			env = append(env, v)
		}
	}
	return env
}

// findPython returns an interpreter that has the module requests, or "".
func findPython() string {
	for _, name := range []string{"/usr/bin/python3", "python3"} {
		if exec.Command(name, "-c", "import requests").Run() == nil {
			return name
		}
	}
	return ""
}

// errSkip says that something that a block needs is not on this machine.
var errSkip = errors.New("SKIP")

// run runs the block and returns what is wrong with it, or nil.
func (h *house) run(b *block) error {
	if len(b.promises()) == 0 {
		return errors.New("the block promises nothing")
	}
	switch b.language {
	case "sh":
		return h.runShell(b)
	case "python":
		return h.runPython(b)
	case "go":
		return h.runGo(b)
	}
	return fmt.Errorf("blocks of %q cannot be run", b.language)
}

// divider ends the output that belongs to one promise.
const divider = "=====promised====="

// runShell runs a block of sh. Each promise is compared with what was printed since the one before.
func (h *house) runShell(b *block) error {
	for _, need := range []string{"bash", "curl"} {
		if _, err := exec.LookPath(need); err != nil {
			return fmt.Errorf("%w: there is no %s", errSkip, need)
		}
	}
	ends := map[int]bool{}
	want := b.promises()
	for _, p := range want {
		ends[p.line] = true
	}
	script := []string{"set -euo pipefail", "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT"}
	for i, line := range b.code {
		script = append(script, line)
		if ends[b.line+i] {
			script = append(script, `printf '\n`+divider+`\n'`)
		}
	}
	output, err := h.execute(script, "bash")
	got := strings.Split(output, "\n"+divider+"\n")
	for i, p := range want {
		if i == len(got)-1 {
			return fmt.Errorf("line %d was not reached: %w; printed: %q", p.line, err, got[i])
		}
		if lines := printed(got[i]); !fits(p.want, lines) {
			return fmt.Errorf("line %d promises %q, but %q was printed", p.line, p.want, lines)
		}
	}
	if rest := printed(got[len(got)-1]); rest != nil {
		return fmt.Errorf("nobody promised the output %q at the end", rest)
	}
	return err
}

// runPython runs a block of Python.
func (h *house) runPython(b *block) error {
	if h.python == "" {
		return fmt.Errorf("%w: there is no python3 with the module requests", errSkip)
	}
	output, err := h.execute(b.code, h.python, "-")
	if err != nil {
		return err
	}
	return b.printedAsPromised(output)
}

// runGo builds a block that is a whole program, as if it were a package of this module, and runs it.
func (h *house) runGo(b *block) error {
	dir, err := os.MkdirTemp("", "doubledutch-block")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	source, overlay, built := filepath.Join(dir, "main.go"), filepath.Join(dir, "overlay.json"), filepath.Join(dir, "block")
	if err := os.WriteFile(source, []byte(h.inPlace(b.code)), 0o600); err != nil {
		return err
	}
	here, err := filepath.Abs("block")
	if err != nil {
		return err
	}
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(here, "main.go"): source}})
	if err != nil {
		return err
	}
	if err := os.WriteFile(overlay, replace, 0o600); err != nil {
		return err
	}
	if out, err := exec.Command("go", "build", "-overlay", overlay, "-o", built, "./block").CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w: %s", err, out)
	}
	output, err := h.execute(nil, built)
	if err != nil {
		return err
	}
	return b.printedAsPromised(output)
}

// printedAsPromised compares all that a block printed with all its promises together.
func (b *block) printedAsPromised(output string) error {
	var want []string
	for _, p := range b.promises() {
		want = append(want, p.want...)
	}
	if lines := printed(output); !fits(want, lines) {
		return fmt.Errorf("the block promises %q, but %q was printed", want, lines)
	}
	return nil
}

// ownLoopback is an address for servers that a block starts itself, on ports 7340 to 7359: other runs of these tests on
// this machine have another one. (Beyond Linux there is only one.)
func ownLoopback() string {
	if runtime.GOOS != "linux" {
		return "127.0.0.1"
	}
	pid := os.Getpid()
	return fmt.Sprintf("127.%d.%d.1", 1+pid%250, pid/250%250)
}

// inPlace returns a script with what stands for the server and the program replaced.
func (h *house) inPlace(script []string) string {
	text := strings.Join(script, "\n") + "\n"
	text = strings.ReplaceAll(text, "127.0.0.1:7333", h.address)
	text = strings.ReplaceAll(text, "127.0.0.1:734", ownLoopback()+":734")
	text = strings.ReplaceAll(text, "127.0.0.1:735", ownLoopback()+":735")
	return strings.ReplaceAll(text, "bin/doubledutch", h.program)
}

// execute feeds a script to a program and returns its standard output. The error has what it said on standard error.
func (h *house) execute(script []string, argv ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdin = strings.NewReader(h.inPlace(script))
	client, err := filepath.Abs("../../clients/python")
	if err != nil {
		return "", err
	}
	cmd.Env = append(environment(), "DOUBLEDUTCH_SERVER=http://"+h.address, "PYTHONPATH="+client, "PYTHONDONTWRITEBYTECODE=1")
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s: %w: %s", argv[0], err, complaints.String())
	}
	return out.String(), nil
}
