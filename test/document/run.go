package document

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// ErrSkip says that something that a block needs is not on this machine.
var ErrSkip = errors.New("SKIP")

// Run runs the block and returns what is wrong with it, or nil.
func (h *House) Run(b *Block) error {
	if len(b.promises()) == 0 {
		return errors.New("the block promises nothing")
	}
	switch b.Language {
	case "sh":
		return h.runShell(b)
	case "python":
		return h.runPython(b)
	case "go":
		return h.runGo(b)
	}
	return fmt.Errorf("blocks of %q cannot be run", b.Language)
}

// divider ends the output that belongs to one promise.
const divider = "=====promised====="

// runShell runs a block of sh. Each promise is compared with what was printed since the one before.
func (h *House) runShell(b *Block) error {
	for _, need := range []string{"bash", "curl"} {
		if _, err := exec.LookPath(need); err != nil {
			return fmt.Errorf("%w: there is no %s", ErrSkip, need)
		}
	}
	ends := map[int]bool{}
	want := b.promises()
	for _, p := range want {
		ends[p.line] = true
	}
	script := []string{"set -euo pipefail", "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT"}
	for i, line := range b.Code {
		script = append(script, line)
		if ends[b.Line+i] {
			script = append(script, `printf '\n`+divider+`\n'`)
		}
	}
	output, err := h.Execute(script, "bash")
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
func (h *House) runPython(b *Block) error {
	if h.Python == "" {
		return fmt.Errorf("%w: there is no python3 with the modules that the block needs", ErrSkip)
	}
	output, err := h.Execute(b.Code, h.Python, "-")
	if err != nil {
		return err
	}
	return b.printedAsPromised(output)
}

// runGo builds a block that is a whole program, as if it were a package of the module of the test that runs, and runs it.
func (h *House) runGo(b *Block) error {
	dir, err := os.MkdirTemp("", "doubledutch-block")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	source, overlay, built := filepath.Join(dir, "main.go"), filepath.Join(dir, "overlay.json"), filepath.Join(dir, "block")
	if err := os.WriteFile(source, []byte(h.inPlace(b.Code)), 0o600); err != nil {
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
	output, err := h.Execute(nil, built)
	if err != nil {
		return err
	}
	return b.printedAsPromised(output)
}

// printedAsPromised compares all that a block printed with all its promises together.
func (b *Block) printedAsPromised(output string) error {
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
func (h *House) inPlace(script []string) string {
	text := strings.Join(script, "\n") + "\n"
	text = strings.ReplaceAll(text, "127.0.0.1:7333", h.Address)
	text = strings.ReplaceAll(text, "127.0.0.1:734", ownLoopback()+":734")
	text = strings.ReplaceAll(text, "127.0.0.1:735", ownLoopback()+":735")
	return strings.ReplaceAll(text, "bin/doubledutch", h.Program)
}

// Execute feeds a script to a program and returns its standard
// output. The error has what it said on standard error.
func (h *House) Execute(script []string, argv ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdin = strings.NewReader(h.inPlace(script))
	cmd.Dir = h.dir
	client, err := filepath.Abs(filepath.Join(Root, "clients", "python"))
	if err != nil {
		return "", err
	}
	cmd.Env = append(Environment(), "DOUBLEDUTCH_SERVER=http://"+h.Address, "PYTHONPATH="+client, "PYTHONDONTWRITEBYTECODE=1")
	cmd.Env = append(cmd.Env, h.Env...)
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s: %w: %s", argv[0], err, complaints.String())
	}
	return out.String(), nil
}
