//go:build linux

package run

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/doubledutch-lock/doubledutch/client"
	"github.com/doubledutch-lock/doubledutch/test/rig"
)

// patience is a deadline that only something that hangs will miss.
const patience = time.Minute

// program is the built binary.
var program string

func TestMain(m *testing.M) {
	if dir := os.Getenv(heartVariable); dir != "" {
		heart(dir, os.Args[1])
	}
	flag.Parse()
	if p := flag.Lookup("test.parallel"); p != nil {
		if n, err := strconv.Atoi(p.Value.String()); err == nil && n < minParallel {
			_ = flag.Set("test.parallel", strconv.Itoa(minParallel))
		}
	}
	os.Exit(run(m))
}

// minParallel is how many tests run at once at least: most of them wait for most of their time.
const minParallel = 5

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "doubledutch-run-test")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	program = filepath.Join(dir, "doubledutch")
	if err := rig.Build(program); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// process is a run of the program.
type process struct {
	*rig.Process
	t           *testing.T
	out, stderr *rig.Output
}

// begin starts the program. wrap may be a command that runs it.
func begin(t *testing.T, wrap, env []string, args ...string) *process {
	t.Helper()
	p := &process{t: t, out: &rig.Output{}, stderr: &rig.Output{}}
	var err error
	p.Process, err = rig.Start(rig.Command{Argv: append([]string{program}, args...), Wrap: wrap, Env: env, Stdout: p.out, Stderr: p.stderr})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.Signal(syscall.SIGCONT)
		p.KillAll()
		if t.Failed() {
			t.Logf("%v printed:\n%s%s", args, p.out, p.stderr)
		}
	})
	return p
}

// code waits for the end.
func (p *process) code() int {
	p.t.Helper()
	code, err := p.Exit(patience)
	if err != nil {
		p.t.Fatal(err)
	}
	return code
}

// signal sends a signal to the wrapper alone.
func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// children lists the children of a process.
func children(t *testing.T, pid int) []int {
	t.Helper()
	dir, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		t.Fatal(err)
	}
	var all []int
	for _, task := range dir {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pid, task.Name()))
		if err != nil {
			continue
		}
		for _, field := range strings.Fields(string(b)) {
			child, err := strconv.Atoi(field)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, child)
		}
	}
	return all
}

// guardian is the process between the wrapper and the command.
func (p *process) guardian() int {
	p.t.Helper()
	pid, err := p.Pid()
	if err != nil {
		p.t.Fatal(err)
	}
	all := children(p.t, pid)
	if len(all) != 1 {
		p.t.Fatalf("the wrapper has the children %v, want one", all)
	}
	return all[0]
}

var servesOn = regexp.MustCompile(`serves on http://(\S+)`)

// serve starts a server and returns it with its address.
func serve(t *testing.T, listen string, flags ...string) (*process, string) {
	t.Helper()
	p := begin(t, nil, nil, append([]string{"serve", "--volatile", "--listen", listen}, flags...)...)
	address := ""
	eventually(t, "the server is up", func() bool {
		if m := servesOn.FindStringSubmatch(p.out.String()); m != nil {
			address = m[1]
		}
		return address != ""
	})
	return p, address
}

// newClient makes a client that sees the server as it is.
func newClient(t *testing.T, address string) *client.Client {
	t.Helper()
	c, err := client.New([]string{"http://" + address}, client.WithOwner("second"), client.WithPatience(-1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// rival waits in the queue of a lock, and tells when it has it.
func rival(t *testing.T, address, name string) <-chan time.Duration {
	t.Helper()
	c := newClient(t, address)
	granted := make(chan time.Duration, 1)
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	var waiting sync.WaitGroup
	t.Cleanup(func() { cancel(); waiting.Wait() })
	waiting.Go(func() {
		defer close(granted)
		lease, err := c.Lock(ctx, name)
		if err != nil {
			t.Errorf("the second client: %v", err)
			return
		}
		granted <- monotonic()
		_ = lease.Unlock(ctx)
	})
	eventually(t, "the second client stands in the queue", func() bool {
		info, err := c.Get(ctx, name)
		return err == nil && info.QueueLength == 1
	})
	return granted
}
