//go:build linux && !race

package counts

import (
	"bufio"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/doubledutch-lock/doubledutch/internal/load"
	"github.com/doubledutch-lock/doubledutch/test/rig"
)

// traced is the real program, every system call of which that matters is written down.
type traced struct {
	file    string
	process *rig.Process
	c       *client
	calls   []call // set by end
}

// The calls that are counted. Those by which the runtime passes its time (nanosleep) depend on the machine.
const tracedCalls = "read,write,writev,sendto,recvfrom,sendmsg,recvmsg,pwrite64,fsync,fdatasync,sync_file_range,msync,futex,epoll_pwait,epoll_pwait2"

var servesOn = regexp.MustCompile(`serves on (http://\S+)`)

// trace starts the program, on two processors whatever the machine has, and connects a client.
func trace(t *testing.T, program string, flags ...string) *traced {
	t.Helper()
	tr := &traced{file: filepath.Join(t.TempDir(), "trace")}
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p, err := rig.Start(rig.Command{
		Argv:   append([]string{program, "serve", "--listen", "127.0.0.1:0", "--log-level", "error"}, flags...),
		Wrap:   []string{"strace", "-f", "-qq", "-ttt", "-yy", "-s", "100", "-o", tr.file, "-e", "signal=none", "-e", "trace=" + tracedCalls},
		Env:    []string{"GOMAXPROCS=2"},
		Stdout: in, Stderr: os.Stderr,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.KillAll)
	tr.process = p
	_ = in.Close()
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if m := servesOn.FindStringSubmatch(lines.Text()); m != nil {
			go func() { // what it says later must not block it
				for lines.Scan() {
				}
			}()
			e, err := load.NewEndpoint(m[1], nil)
			if err != nil {
				t.Fatal(err)
			}
			tr.c = dial(t, e)
			return tr
		}
	}
	t.Fatal("the server does not come up")
	return nil
}

// call is a system call of the server.
type call struct {
	at     float64 // when it ended, in seconds
	name   string
	text   string // all of it
	result int
}

var (
	wholeLine  = regexp.MustCompile(`^(\w+)\((.*)\) += (-?\d+|\?)`)
	resumed    = regexp.MustCompile(`^<\.\.\. \w+ resumed>`)
	unfinished = regexp.MustCompile(` *<unfinished \.\.\.>$`)
)

// mark runs f between two requests whose names can be found in the trace.
func (tr *traced) mark(name string, f func()) {
	tr.c.get([]byte("/v1/locks/begin-" + name))
	f()
	tr.c.get([]byte("/v1/locks/end-" + name))
}

// end ends the server, with which strace writes the last of its file, and reads that.
func (tr *traced) end(t *testing.T) {
	t.Helper()
	if err := tr.process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code, err := tr.process.Exit(patience); code != 0 || err != nil {
		t.Fatalf("the server ended with %d, %v", code, err)
	}
	tr.calls = tr.read(t)
}

// during returns what the server did between the reading of the first and that of the second request of a mark.
func (tr *traced) during(t *testing.T, name string) []call {
	t.Helper()
	begin, end := find(tr.calls, "/v1/locks/begin-"+name+" "), find(tr.calls, "/v1/locks/end-"+name+" ")
	if begin < 0 || end < begin {
		t.Fatalf("the marks %s are not in the trace of %d calls", name, len(tr.calls))
	}
	return tr.calls[begin+1 : end+1]
}

// find returns the last call whose text contains s, or -1.
func find(calls []call, s string) int {
	for i := len(calls) - 1; i >= 0; i-- {
		if strings.Contains(calls[i].text, s) {
			return i
		}
	}
	return -1
}

// read reads the trace, with the calls in the order in which they ended.
func (tr *traced) read(t *testing.T) (calls []call) {
	t.Helper()
	data, err := os.ReadFile(tr.file)
	if err != nil {
		t.Fatal(err)
	}
	begun := make(map[string]string) // by thread
	for line := range strings.Lines(string(data)) {
		thread, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		stamp, text, _ := strings.Cut(strings.TrimSpace(rest), " ")
		if unfinished.MatchString(text) {
			begun[thread] = unfinished.ReplaceAllString(text, "")
			continue
		}
		if at := resumed.FindStringIndex(text); at != nil {
			text = begun[thread] + text[at[1]:]
		}
		if m := wholeLine.FindStringSubmatch(text); m != nil {
			at, _ := strconv.ParseFloat(stamp, 64)
			result, _ := strconv.Atoi(m[3])
			calls = append(calls, call{at: at, name: m[1], text: text, result: result})
		}
	}
	return calls
}

var onLog = regexp.MustCompile(`^\w+\(\d+<[^>]*/log/[^/>]*\.wal>`)

func (c call) isSync() bool { return strings.Contains(c.name, "sync") }

// toLog tells whether the call is on a file of the log.
func (c call) toLog() bool { return onLog.MatchString(c.text) }

func (c call) isRead() bool { return c.name == "read" || strings.HasPrefix(c.name, "recv") }

// toSocket tells whether it is on a connection.
func (c call) toSocket() bool { return strings.Contains(c.text, "<TCP:[") }

// count returns how many calls are such.
func count(calls []call, such func(call) bool) (n float64) {
	for _, c := range calls {
		if such(c) {
			n++
		}
	}
	return n
}
