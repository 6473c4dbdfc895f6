//go:build linux

package deploy

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/doubledutch-lock/doubledutch/test/rig"
)

// patience is a deadline that only something that hangs will miss.
const patience = time.Minute

var addresses atomic.Uint32

// ownAddress is a loopback address that no other container of this run has, and hardly anybody else on this machine.
func ownAddress() string {
	pid := os.Getpid()
	return fmt.Sprintf("127.%d.%d.%d", 1+pid%200, pid/200%250, 100+addresses.Add(1))
}

// container is how a process of the program is started: what is in a file of this repository, with addresses and paths of
// this machine put in.
type container struct {
	args []string
	env  map[string]string
	wrap []string // a command that runs it
}

// command returns the program with other arguments in the same environment, as an orchestrator's exec does.
func (c *container) command(ctx context.Context, args ...string) *exec.Cmd {
	argv := slices.Concat(c.wrap, []string{program}, args)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	for k, v := range c.env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	return cmd
}

// exec runs a command in the container and returns its output and exit code.
func (c *container) exec(t *testing.T, args ...string) (string, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out, err := c.command(ctx, args...).CombinedOutput()
	if ctx.Err() != nil {
		t.Fatalf("%v hangs (%v): %s", args, err, out)
	}
	code := 0
	if err != nil {
		code = 1
		if e, ok := err.(*exec.ExitError); ok { //nolint:errorlint // Output returns it as it is
			code = e.ExitCode()
		}
	}
	return string(out), code
}

// process is a container that was started.
type process struct {
	*container
	t    *testing.T
	cmd  *exec.Cmd
	log  *rig.Output
	gone chan struct{} // closed when it has ended
}

func (c *container) start(t *testing.T) *process {
	t.Helper()
	p := &process{container: c, t: t, log: &rig.Output{}, gone: make(chan struct{})}
	p.cmd = c.command(context.Background(), c.args...)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.gone)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.gone
		if t.Failed() {
			text := p.log.String()
			t.Logf("%v said\n%s", c.args, text[max(0, len(text)-3000):])
		}
	})
	return p
}

// stop signals the process and returns its exit code, or -1 if the signal killed it.
func (p *process) stop(s syscall.Signal) int {
	p.t.Helper()
	_ = p.cmd.Process.Signal(s)
	return p.exit()
}

// exit waits for the end of the process and returns its exit code.
func (p *process) exit() int {
	p.t.Helper()
	select {
	case <-p.gone:
	case <-time.After(patience):
		p.t.Fatalf("it does not end")
	}
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) runs() bool {
	select {
	case <-p.gone:
		return false
	default:
		return true
	}
}

// status asks for a path and returns the status of the answer, 0 if there is none, and its body.
func status(url string) (int, string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err.Error()
	}
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = a.Body.Close() }()
	body, _ := io.ReadAll(a.Body)
	return a.StatusCode, string(body)
}

// eventually polls until done, or fails the test.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for began := time.Now(); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Since(began) > patience {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

func mustRead(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// imageEnvironment is what the Dockerfile sets for every container.
func imageEnvironment(t *testing.T) map[string]string {
	t.Helper()
	text := strings.ReplaceAll(mustRead(t, root+"/Dockerfile"), "\\\n", " ")
	env := map[string]string{}
	for line := range strings.Lines(text) {
		rest, found := strings.CutPrefix(line, "ENV ")
		if !found {
			continue
		}
		for _, pair := range strings.Fields(rest) {
			k, v, _ := strings.Cut(pair, "=")
			env[k] = v
		}
	}
	if env["DOUBLEDUTCH_DATA_DIR"] == "" {
		t.Fatalf("the Dockerfile sets %v", env)
	}
	return env
}
