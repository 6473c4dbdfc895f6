package bench

import (
	"crypto/rand"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// server is what is under load: a process, or three that are a cluster.
type server struct {
	procs []*process
}

type process struct {
	cmd  *exec.Cmd
	addr string
}

const (
	baseOf = "DOUBLEDUTCH_BENCH_BASELINE" // set in the process that is the baseline: the address it serves
	given  = "DOUBLEDUTCH_BENCH_BINARY"   // measure this program, an older build perhaps, instead of building one
)

var binary string

func TestMain(m *testing.M) {
	if addr := os.Getenv(baseOf); addr != "" {
		fmt.Fprintln(os.Stderr, serveBaseline(addr))
		os.Exit(1)
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "doubledutch-bench")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if binary = os.Getenv(given); binary == "" {
		binary = filepath.Join(dir, "doubledutch")
	}
	return m.Run()
}

var build = sync.OnceValue(func() error {
	if os.Getenv(given) != "" {
		return nil
	}
	out, err := exec.Command("go", "build", "-o", binary, "../../cmd/doubledutch").CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
})

func startServer(b *testing.B, kind string) *server {
	b.Helper()
	if err := build(); err != nil {
		b.Fatal(err)
	}
	s := &server{}
	switch kind {
	case "baseline":
		addr := freeAddr(b)
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), baseOf+"="+addr)
		s.start(b, addr, cmd)
	case "volatile":
		s.serve(b, "--volatile")
	case "durable":
		s.serve(b, "--data-dir", b.TempDir())
	case "three":
		s.serveThree(b)
	}
	for _, p := range s.procs {
		p.await(b)
	}
	return s
}

func (s *server) serve(b *testing.B, flags ...string) {
	b.Helper()
	addr := freeAddr(b)
	s.start(b, addr, exec.Command(binary, append([]string{"serve", "--listen", addr, "--log-level", "error"}, flags...)...))
}

func (s *server) serveThree(b *testing.B) {
	b.Helper()
	var peers, members []string
	for i := range 3 {
		peers = append(peers, freeAddr(b))
		members = append(members, fmt.Sprintf("n%d=%s", i, peers[i]))
	}
	for i, peer := range peers {
		s.serve(b, "--data-dir", b.TempDir(), "--name", fmt.Sprint("n", i), "--cluster-listen", peer, "--cluster", strings.Join(members, ","))
	}
}

func (s *server) start(b *testing.B, addr string, cmd *exec.Cmd) {
	b.Helper()
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	s.procs = append(s.procs, &process{cmd: cmd, addr: addr})
}

// dial connects the i-th client: to one process after the other.
func (s *server) dial(tb testing.TB, i int) *client {
	tb.Helper()
	return dial(tb, s.procs[i%len(s.procs)].addr)
}

func freeAddr(b *testing.B) string {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// await returns when the process serves locks.
func (p *process) await(b *testing.B) {
	b.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		res, err := http.Get("http://" + p.addr + "/getLock/warm-up/0.001?timeout=1")
		if err == nil {
			_ = res.Body.Close()
			if res.StatusCode < http.StatusInternalServerError { // the baseline has no such path
				return
			}
		}
		if time.Now().After(deadline) {
			b.Fatal("the server does not come up: ", err)
		}
	}
}

// cpu returns the CPU time that all processes have used so far, from the kernel's accounting (in ticks of 10 ms).
func (s *server) cpu(b *testing.B) time.Duration {
	b.Helper()
	ticks := 0
	for _, p := range s.procs {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
		if err != nil {
			b.Fatal(err)
		}
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		user, _ := strconv.Atoi(fields[11])
		system, _ := strconv.Atoi(fields[12])
		ticks += user + system
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// serveBaseline answers the two seed requests from a map, with net/http and nothing else.
func serveBaseline(addr string) error {
	var mu sync.Mutex // guards held
	held := make(map[string]string)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /getLock/{name}", func(w http.ResponseWriter, r *http.Request) {
		key := rand.Text() + "ABCDEF"
		mu.Lock()
		defer mu.Unlock()
		if _, ok := held[r.PathValue("name")]; ok {
			fmt.Fprint(w, "false")
			return
		}
		held[r.PathValue("name")] = key
		fmt.Fprint(w, key)
	})
	mux.HandleFunc("GET /releaseLock/{name}/{key}", func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if held[r.PathValue("name")] != r.PathValue("key") {
			fmt.Fprint(w, "false")
			return
		}
		delete(held, r.PathValue("name"))
		fmt.Fprint(w, "released")
	})
	return http.ListenAndServe(addr, mux)
}
