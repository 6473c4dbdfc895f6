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
	"syscall"
	"testing"
	"time"
)

// server is a process under load.
type server struct {
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
	addr := freeAddr(b)
	var cmd *exec.Cmd
	switch kind {
	case "baseline":
		cmd = exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), baseOf+"="+addr)
	case "volatile":
		cmd = exec.Command(binary, "serve", "--listen", addr, "--volatile", "--log-level", "error")
	case "durable":
		cmd = exec.Command(binary, "serve", "--listen", addr, "--data-dir", b.TempDir(), "--log-level", "error")
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	s := &server{cmd: cmd, addr: addr}
	b.Cleanup(s.stop)
	s.await(b)
	return s
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

// await returns when the server accepts connections.
func (s *server) await(b *testing.B) {
	b.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		conn, err := net.Dial("tcp", s.addr)
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(deadline) {
			b.Fatal("the server does not come up: ", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (s *server) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	_ = s.cmd.Wait()
}

// cpu returns the CPU time that the process has used so far, from the kernel's accounting (in ticks of 10 ms).
func (s *server) cpu(b *testing.B) time.Duration {
	b.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
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
