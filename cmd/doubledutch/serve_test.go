package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/doubledutch-lock/doubledutch/cmd/doubledutch/exitcode"
	"github.com/doubledutch-lock/doubledutch/test/rig"
)

// running is a server in its own process.
type running struct {
	t     *testing.T
	cmd   *exec.Cmd
	block string // what it printed when it could be used
	url   string
	log   *rig.Output
}

// serve starts a server on a free port and returns when it can be used.
func serve(t *testing.T, p *program) *running {
	t.Helper()
	p.args = append([]string{"serve", "--listen", "127.0.0.1:0"}, p.args...)
	r := &running{t: t, cmd: p.command(context.Background()), log: &rig.Output{}}
	r.cmd.Stderr = r.log
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = r.cmd.Process.Kill()
		_ = r.cmd.Wait()
		if t.Failed() {
			t.Logf("the server printed\n%s%s", r.block, r.log)
		}
	})
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		r.block += lines.Text() + "\n"
		if strings.HasPrefix(lines.Text(), "  try ") {
			break
		}
	}
	_, after, _ := strings.Cut(r.block, " serves on ")
	if r.url, _, _ = strings.Cut(after, "\n"); r.url == "" {
		_ = r.cmd.Wait()
		t.Fatalf("the server ended with %d and printed\n%s%s", r.cmd.ProcessState.ExitCode(), r.block, r.log)
	}
	return r
}

// client prepares a run of a client verb against the server.
func (r *running) client(args ...string) *program {
	return doubledutch(r.t, args...).with("DOUBLEDUTCH_SERVER=" + r.url)
}

// stop sends a signal and returns the exit code.
func (r *running) stop(s os.Signal) int {
	r.t.Helper()
	if err := r.cmd.Process.Signal(s); err != nil {
		r.t.Fatal(err)
	}
	return r.wait()
}

// wait returns the exit code. A process that does not end is killed after a while.
func (r *running) wait() int {
	defer time.AfterFunc(time.Minute, func() { _ = r.cmd.Process.Kill() }).Stop()
	_ = r.cmd.Wait()
	return r.cmd.ProcessState.ExitCode()
}

func TestServeVolatile(t *testing.T) {
	r := serve(t, doubledutch(t, "--volatile"))
	for _, want := range []string{"DoubleDutch " + version(), "nothing survives a restart", "TLS      off", "API key  off", "nothing yet", "curl " + r.url + "/getLock/hello"} {
		if !strings.Contains(r.block, want) {
			t.Errorf("the block does not say %q:\n%s", want, r.block)
		}
	}
	key := strings.TrimSpace(r.client("acquire", "a/b c", "--owner", "me").check(exitcode.OK, "token 1").out)
	r.client("acquire", "a/b c").check(exitcode.Held, "held by me")
	r.client("ls").check(exitcode.OK, "a/b c")
	r.client("show", "a/b c").check(exitcode.OK, "me ")
	r.client("renew", "a/b c", key, "--ttl", "1m").check(exitcode.OK, "renewed")
	r.client("release", "a/b c", key).check(exitcode.OK, "released")
	r.client("release", "a/b c", key).check(exitcode.NotHeld, "")
	r.client("ping").check(exitcode.OK, "ready")
	if code := r.stop(syscall.SIGTERM); code != exitcode.OK {
		t.Errorf("exit code %d after SIGTERM", code)
	}
	if strings.Contains(r.log.String(), key) {
		t.Error("the log holds the key")
	}
}

func TestServeKeepsLocksOverRestarts(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	r := serve(t, doubledutch(t, "--data-dir", dir))
	key := strings.TrimSpace(r.client("acquire", "db", "--ttl", "1h").check(exitcode.OK, "token 1").out)
	if code := r.stop(os.Interrupt); code != exitcode.OK {
		t.Fatalf("exit code %d after SIGINT", code)
	}

	r = serve(t, doubledutch(t, "--data-dir", dir))
	if !strings.Contains(r.block, "1 locks held, 0 waiting") || !strings.Contains(r.block, dir) {
		t.Errorf("the block says\n%s", r.block)
	}
	r.client("acquire", "db").check(exitcode.Held, "")
	if code := r.stop(syscall.SIGKILL); code == exitcode.OK {
		t.Fatal("exit code 0 after SIGKILL")
	}

	r = serve(t, doubledutch(t, "--data-dir", dir))
	r.client("release", "db", key).check(exitcode.OK, "released")
	r.client("acquire", "db").check(exitcode.OK, "token 2")
}

// A client that waits while the server restarts still has its place.
func TestWaiterOutlivesARestart(t *testing.T) {
	dir := t.TempDir()
	r := serve(t, doubledutch(t, "--data-dir", dir))
	key := strings.TrimSpace(r.client("acquire", "db", "--ttl", "1h").check(exitcode.OK, "").out)
	waiter := r.client("acquire", "db", "--wait", "1m", "--owner", "waiter").command(t.Context())
	var out bytes.Buffer
	waiter.Stdout = &out
	if err := waiter.Start(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return strings.Contains(r.client("show", "db").run().out, "waiter") })
	if code := r.stop(syscall.SIGTERM); code != exitcode.OK {
		t.Fatalf("exit code %d after SIGTERM", code)
	}

	address := strings.TrimPrefix(r.url, "http://")
	again := serve(t, doubledutch(t, "--data-dir", dir, "--listen", address))
	if !strings.Contains(again.block, "1 locks held, 1 waiting") {
		t.Errorf("the block says\n%s", again.block)
	}
	again.client("release", "db", key).check(exitcode.OK, "released")
	if err := waiter.Wait(); err != nil || len(strings.TrimSpace(out.String())) != 32 {
		t.Errorf("the waiter printed %q, %v", out.String(), err)
	}
}

// waitFor asks until the answer is yes. What is asked for happens in another process, so there is nothing to wait on.
func waitFor(t *testing.T, yes func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !yes(); {
		if time.Now().After(deadline) {
			t.Fatal("it did not happen within 20 s")
		}
	}
}

func TestServeRefusesToStart(t *testing.T) {
	dir := t.TempDir()
	r := serve(t, doubledutch(t, "--data-dir", dir))
	address := strings.TrimPrefix(r.url, "http://")
	doubledutch(t, "serve", "--data-dir", dir, "--listen", "127.0.0.1:0").check(exitcode.DataDirInUse, "in use by another process")
	doubledutch(t, "serve", "--volatile", "--listen", address).check(exitcode.Failure, "address already in use")
	doubledutch(t, "serve", "--volatile", "--listen", "0.0.0.0:0").check(exitcode.Usage, "--insecure")
	doubledutch(t, "serve", "--volatile", "--listen", "nonsense").check(exitcode.Usage, "--listen")
	doubledutch(t, "serve", "--volatile", "--tls-cert", "/nowhere", "--tls-key", "/nowhere").check(exitcode.Usage, "/nowhere")
	untouched := filepath.Join(t.TempDir(), "data")
	doubledutch(t, "serve", "--data-dir", untouched, "--listen", "0.0.0.0:0").check(exitcode.Usage, "--insecure")
	if _, err := os.Stat(untouched); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a server that refused to start left a data directory: %v", err)
	}
	if code := r.stop(syscall.SIGTERM); code != exitcode.OK {
		t.Errorf("exit code %d after SIGTERM", code)
	}
	if err := os.WriteFile(filepath.Join(dir, "format"), []byte("something else\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	doubledutch(t, "serve", "--data-dir", dir, "--listen", "127.0.0.1:0").check(exitcode.StorageDamaged, "damaged")
}

// busy leaves a request unfinished, so that a shutdown has something to wait for.
func (r *running) busy() {
	r.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = conn.Close() })
	const request = "POST /v1/locks/x HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: 100\r\n\r\n"
	if _, err := io.WriteString(conn, request); err != nil {
		r.t.Fatal(err)
	}
	// The server answers 100 when its handler reads the body, which never comes.
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.Contains(line, "100") {
		r.t.Fatalf("got %q, %v", line, err)
	}
}

func TestShutdownIsBounded(t *testing.T) {
	r := serve(t, doubledutch(t, "--volatile", "--shutdown-timeout", "400ms"))
	r.busy()
	if code := r.stop(syscall.SIGTERM); code != exitcode.OK || !strings.Contains(r.log.String(), "cut off") {
		t.Errorf("exit code %d", code)
	}
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	r := serve(t, doubledutch(t, "--volatile", "--shutdown-timeout", "1h"))
	r.busy()
	if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return strings.Contains(r.log.String(), `"msg":"stopping"`) })
	if code := r.stop(os.Interrupt); code != exitcode.Interrupted {
		t.Errorf("exit code %d after the second signal", code)
	}
}

func TestServeTellsTheServiceManager(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	r := serve(t, doubledutch(t, "--volatile").with("NOTIFY_SOCKET="+socket))
	if code := r.stop(syscall.SIGTERM); code != exitcode.OK {
		t.Errorf("exit code %d after SIGTERM", code)
	}
	for _, want := range []string{"READY=1", "STOPPING=1"} {
		buf := make([]byte, 100)
		n, err := conn.Read(buf)
		if err != nil || string(buf[:n]) != want {
			t.Errorf("got %q, %v; want %q", buf[:n], err, want)
		}
	}
}

func TestServeIsPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	r := serve(t, doubledutch(t, "--data-dir", dir))
	r.client("acquire", "db").check(exitcode.OK, "")
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if runtime.GOOS != "linux" {
		return
	}
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", r.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(limits)) {
		f := strings.Fields(line)
		if strings.HasPrefix(line, "Max core file size") && f[4] != "0" {
			t.Errorf("core dumps are on: %s", line)
		}
		if strings.HasPrefix(line, "Max open files") && f[3] != f[4] {
			t.Errorf("the limit on open files was not raised: %s", line)
		}
	}
}

// The API key is asked for, and shows up nowhere.
func TestServeWithAPIKey(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte("planted-api-key\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := serve(t, doubledutch(t, "--volatile", "--api-key-file", file, "--log-level", "debug"))
	r.client("acquire", "db").check(exitcode.Failure, "API key")
	r.client("acquire", "db").with("DOUBLEDUTCH_API_KEY=planted-api-key").check(exitcode.OK, "token 1")
	r.client("acquire", "other", "--api-key-file", file).check(exitcode.OK, "token 2")
	r.pasted("DOUBLEDUTCH_API_KEY=planted-api-key")
	if code := r.stop(syscall.SIGTERM); code != exitcode.OK {
		t.Errorf("exit code %d after SIGTERM", code)
	}
	if all := r.block + r.log.String(); strings.Contains(all, "planted") {
		t.Error("the server printed its API key")
	}
}

// pasted runs the curl line of the block in a shell and wants a key from it.
func (r *running) pasted(env ...string) {
	r.t.Helper()
	if _, err := exec.LookPath("curl"); err != nil {
		r.t.Skip("needs curl")
	}
	_, line, _ := strings.Cut(r.block, "try ")
	cmd := exec.Command("sh", "-c", strings.TrimSpace(line))
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.Output()
	if err != nil || len(out) != 32 {
		r.t.Errorf("%s printed %q, %v", line, out, err)
	}
}

func TestCurlLineWorks(t *testing.T) {
	serve(t, doubledutch(t, "--volatile")).pasted()
}

func TestCurlLineWorksForAllAddresses(t *testing.T) {
	r := serve(t, doubledutch(t, "--volatile", "--listen", "0.0.0.0:0", "--insecure"))
	if !strings.Contains(r.block, "(all addresses)") {
		t.Errorf("the block says\n%s", r.block)
	}
	r.pasted()
}

func TestCurlLineWorksWithTLS(t *testing.T) {
	for _, names := range [][]string{{"locks.example"}, {"localhost"}, {"*.locks.example"}} {
		cert, key := selfSigned(t, names...)
		r := serve(t, doubledutch(t, "--volatile", "--tls-cert", cert, "--tls-key", key))
		if !strings.HasPrefix(r.url, "https://") || !strings.Contains(r.block, "TLS      on") {
			t.Errorf("the block says\n%s", r.block)
		}
		r.pasted()
		r.client("ping", "--ca-cert", key).check(exitcode.Usage, "holds no PEM certificate")
		r.client("ping").check(exitcode.Unavailable, "cannot trust the certificate")
	}
}

func TestLogFormats(t *testing.T) {
	r := serve(t, doubledutch(t, "--volatile"))
	r.stop(syscall.SIGTERM)
	for line := range strings.Lines(r.log.String()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("not a terminal, but the log says %s", line)
		}
	}
	r = serve(t, doubledutch(t, "--volatile", "--log-format", "text"))
	r.stop(syscall.SIGTERM)
	if !strings.Contains(r.log.String(), "level=INFO msg=serving") {
		t.Errorf("as text the log says\n%s", r.log)
	}
	r = serve(t, doubledutch(t, "--volatile", "--log-level", "error"))
	r.stop(syscall.SIGTERM)
	if r.log.String() != "" {
		t.Errorf("with errors only the log says\n%s", r.log)
	}
}

func TestLimitsReachTheTable(t *testing.T) {
	r := serve(t, doubledutch(t, "--volatile", "--max-ttl", "1m", "--max-locks", "1"))
	r.client("acquire", "a", "--ttl", "2m").check(exitcode.Failure, "")
	r.client("acquire", "a", "--ttl", "1m").check(exitcode.OK, "token 1")
	r.client("acquire", "b", "--ttl", "1m").check(exitcode.Unavailable, "as many locks as it may")
}

func TestServerName(t *testing.T) {
	r := serve(t, doubledutch(t, "--volatile").with("DOUBLEDUTCH_SERVER_NAME=Maggie"))
	resp, err := http.Get(r.url + "/getlock?lockname=x&timeout=0&lifetime=5&auth=")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if body, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(body), `"servername":"Maggie"`) {
		t.Errorf("got %s, %v", body, err)
	}
}
