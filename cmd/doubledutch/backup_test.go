package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/doubledutch-lock/doubledutch/cmd/doubledutch/exitcode"
)

// rest makes a request of v1 and returns the answer, decoded, with its status.
func (r *running) rest(method, path, body string) (status int, answer map[string]any) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, r.url+path, strings.NewReader(body))
	if err != nil {
		r.t.Error(err)
		return 0, nil
	}
	if body != "" {
		req.Header.Set("Content-Type", jsonType)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil // the server may have been killed
	}
	defer func() { _ = res.Body.Close() }()
	_ = json.NewDecoder(res.Body).Decode(&answer)
	return res.StatusCode, answer
}

// acquire acquires a lock with a key of its own, and returns the token.
func (r *running) acquire(name, key, more string) uint64 {
	r.t.Helper()
	status, a := r.rest(http.MethodPost, "/v1/locks/"+name, `{"key":"`+key+`"`+more+`}`)
	token, _ := a["token"].(float64)
	if status != http.StatusOK || token == 0 {
		r.t.Fatalf("acquire %s: %d %v", name, status, a)
	}
	return uint64(token)
}

// testKey is a key that begins with s.
func testKey(s string) string { return s + strings.Repeat("0", 32-len(s)) }

// backUp writes a backup and returns its name and what was said of it.
func (r *running) backUp(args ...string) (file string, said backupReport) {
	r.t.Helper()
	file = filepath.Join(r.t.TempDir(), "locks.backup")
	out := r.client(append([]string{"backup", file, "--json"}, args...)...).check(exitcode.OK, `"cluster_id"`).out
	if err := json.Unmarshal([]byte(out), &said); err != nil {
		r.t.Fatal(err)
	}
	return file, said
}

// restored makes a data directory out of a backup.
func restored(t *testing.T, file string, args ...string) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "restored")
	doubledutch(t, append([]string{"restore", file, "--data-dir", dir}, args...)...).check(exitcode.OK, "of the new cluster")
	return dir
}

// load takes and gives back locks until stop, and remembers the highest token.
func (r *running) load(stop <-chan struct{}, group *sync.WaitGroup, newest *atomic.Uint64) {
	for worker := range 4 {
		group.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				status, a := r.rest(http.MethodPost, fmt.Sprintf("/v1/locks/load-%d-%d", worker, i), `{"ttl":5}`)
				token, _ := a["token"].(float64)
				if status != http.StatusOK {
					continue
				}
				for old := newest.Load(); uint64(token) > old && !newest.CompareAndSwap(old, uint64(token)); old = newest.Load() {
				}
			}
		})
	}
}

// T29: a backup that was taken under load brings back every key, place and session, and nobody ever gets a token that the lost
// server might have given.
func TestBackupUnderLoad(t *testing.T) {
	r := serve(t, doubledutch(t, "--data-dir", filepath.Join(t.TempDir(), "data")))
	held := r.acquire("db", testKey("a"), `,"ttl":3600`)
	for _, w := range []string{"b", "c"} {
		go r.rest(http.MethodPost, "/v1/locks/db", `{"key":"`+testKey(w)+`","wait":-1,"ttl":3600}`)
		waitFor(t, func() bool {
			_, a := r.rest(http.MethodGet, "/v1/locks/db", "")
			n, _ := a["queue_length"].(float64)
			return w == "b" && n == 1 || n == 2
		})
	}
	status, session := r.rest(http.MethodPost, "/v1/sessions", `{"ttl":3600}`)
	id, _ := session["id"].(string)
	if status != http.StatusOK || id == "" {
		t.Fatalf("%d %v", status, session)
	}
	ofSession := r.acquire("file", testKey("d"), `,"session":"`+id+`"`)

	var newest atomic.Uint64
	var group sync.WaitGroup
	stop := make(chan struct{})
	r.load(stop, &group, &newest)
	waitFor(t, func() bool { return newest.Load() > 100 })
	file, said := r.backUp()
	after := newest.Load() + 100
	waitFor(t, func() bool { return newest.Load() > after })
	_ = r.stop(syscall.SIGKILL)
	close(stop)
	group.Wait()

	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 || info.Size() != said.Bytes || said.Holds < 2 || said.Waiters != 2 || said.Sessions != 1 {
		t.Errorf("%v, %v, said %+v", info, err, said)
	}
	doubledutch(t, "restore", "--check", file).check(exitcode.OK, "a whole backup of")
	n := serve(t, doubledutch(t, "--data-dir", restored(t, file)))
	if got := n.acquire("db", testKey("a"), `,"ttl":3600`); got != held {
		t.Errorf("the hold has token %d, had %d", got, held)
	}
	if got := n.acquire("file", testKey("d"), `,"session":"`+id+`"`); got != ofSession {
		t.Errorf("the session's hold has token %d, had %d", got, ofSession)
	}
	if got := n.acquire("new", testKey("x"), ""); got <= newest.Load() || got>>40 != 1 {
		t.Errorf("token %d after %d", got, newest.Load())
	}
	n.client("release", "db", testKey("a")).check(exitcode.OK, "released")
	second := n.acquire("db", testKey("b"), `,"wait":1,"ttl":3600`) // it came first, and was granted
	n.client("release", "db", testKey("b")).check(exitcode.OK, "released")
	if third := n.acquire("db", testKey("c"), `,"wait":1,"ttl":3600`); third <= second {
		t.Errorf("token %d after %d", third, second)
	}
}

// H20: a file that is not exactly what was written is refused, and nothing is made of it.
func TestDamagedBackups(t *testing.T) {
	r := serve(t, doubledutch(t, "--volatile"))
	r.acquire("db", testKey("a"), "")
	file, _ := r.backUp()
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(whole)
	flipped[len(flipped)/2] ^= 1
	parent := t.TempDir()
	dir := filepath.Join(parent, "data")
	for want, content := range map[string][]byte{
		"cut short":                 whole[:len(whole)-1],
		"checksum":                  flipped,
		"not a backup":              []byte("PK\x03\x04"),
		"something follows":         append(bytes.Clone(whole), '\n'),
		"use the newer version":     bytes.Replace(whole, []byte("backup 1\n"), []byte("backup 2\n"), 1),
		"not a backup of":           nil,
		"not in the form in which ": bytes.Replace(whole, []byte(`{"cluster_id"`), []byte(`{"future":1,"cluster_id"`), 1),
	} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		doubledutch(t, "restore", file, "--data-dir", dir).check(exitcode.StorageDamaged, want)
		doubledutch(t, "restore", "--check", file).check(exitcode.StorageDamaged, want)
		doubledutch(t, "restore", "-", "--data-dir", dir).reading(string(content)).check(exitcode.StorageDamaged, want)
	}
	if left, err := os.ReadDir(parent); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	doubledutch(t, "restore", filepath.Join(parent, "missing"), "--data-dir", dir).check(exitcode.Failure, "no such file")
	doubledutch(t, "restore", "-", "--data-dir", dir, "--name", "n1", "--json").reading(string(whole)).check(exitcode.OK, `"token_epoch": 1`)
	doubledutch(t, "restore", "-", "--data-dir", dir).reading(string(whole)).check(exitcode.Failure, "holds data already")
	doubledutch(t, "restore", "-", "--data-dir", parent).reading(string(whole)).check(exitcode.Failure, "not a data directory")
	// What was made before those is whole.
	n := serve(t, doubledutch(t, "--data-dir", dir))
	if got := n.acquire("db", testKey("a"), ""); got != 1 {
		t.Errorf("token %d", got)
	}
	doubledutch(t, "backup", filepath.Join(parent, "x"), "--data-dir", dir).check(exitcode.DataDirInUse, "in use")
}

func TestBackupFiles(t *testing.T) {
	r := serve(t, doubledutch(t, "--volatile"))
	dir := t.TempDir()
	file := filepath.Join(dir, "b")
	r.client("backup", file).check(exitcode.OK, "backed up 0 locks")
	r.client("backup", file).check(exitcode.Failure, "--force")
	r.client("backup", file, "--force").check(exitcode.OK, "backed up")
	r.client("backup", dir).check(exitcode.Failure, "is not a file")
	r.client("backup", filepath.Join(dir, "no", "b")).check(exitcode.Failure, "no such file")
	// A variable or a file that says where a server has its data does not mean a stopped one.
	out := r.client("backup", "-", "--config", configFileOf(t, `{"data-dir": "/nowhere"}`)).with("DOUBLEDUTCH_DATA_DIR="+dir).
		check(exitcode.OK, "backed up").out
	if !strings.HasPrefix(out, "doubledutch-backup 1\n") {
		t.Errorf("%.100q", out)
	}
	doubledutch(t, "restore", "--check", "-").reading(out).check(exitcode.OK, "a whole backup")

	// What does not arrive whole is not kept.
	_, state, _ := strings.Cut(out, "\n")
	for want, s := range map[string]struct {
		code int
		body string
	}{
		"cut short":    {exitcode.Unavailable, out[:len(out)-1]},
		"not a backup": {exitcode.Unavailable, state},
	} {
		url, _ := fakeServer(t, answering(200, "application/octet-stream", s.body))
		doubledutch(t, "backup", filepath.Join(dir, "bad"), "--server", url).check(s.code, want)
	}
	url, _ := fakeServer(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(out[:40]))
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	doubledutch(t, "backup", filepath.Join(dir, "bad"), "--server", url).check(exitcode.Unavailable, "cut short")
	url, _ = fakeServer(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte(out[:40]))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	doubledutch(t, "backup", filepath.Join(dir, "bad"), "--server", url, "--timeout", "0.2").check(exitcode.Unavailable, "in time")
	url, _ = fakeServer(t, answering(503, problemType, `{"status":503,"code":"unavailable","detail":"No majority."}`))
	doubledutch(t, "backup", filepath.Join(dir, "bad"), "--server", url).check(exitcode.Unavailable, "No majority.")
	url, _ = fakeServer(t, answering(401, problemType, `{"status":401,"code":"unauthorized","detail":"This server wants an API key."}`))
	doubledutch(t, "backup", filepath.Join(dir, "bad"), "--server", url).check(exitcode.Failure, "wants an API key")
	doubledutch(t, "backup", filepath.Join(dir, "bad"), "--server", "127.0.0.1:1").check(exitcode.Unavailable, "cannot reach")
	doubledutch(t, "backup", filepath.Join(dir, "bad"), "--data-dir", filepath.Join(dir, "none")).check(exitcode.Failure, "does not exist")
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestRestoreFlags(t *testing.T) {
	for args, want := range map[string]string{
		"--name a/b":         "--name: ",
		"--token-epoch 8192": "the last epoch is 8191",
		"--token-epoch -1":   "expected",
		"--data-dir=":        "--data-dir is empty",
	} {
		doubledutch(t, append([]string{"restore", "x"}, strings.Fields(args)...)...).check(exitcode.Usage, want)
	}
	r := serve(t, doubledutch(t, "--volatile"))
	file, _ := r.backUp()
	dir := filepath.Join(t.TempDir(), "d")
	doubledutch(t, "restore", file, "--token-epoch", "8191", "--name", "n7", "--data-dir", dir).check(exitcode.OK, "node n7 of the new cluster")
	n := serve(t, doubledutch(t, "--data-dir", dir))
	if got := n.acquire("db", testKey("a"), ""); got != 8191<<40+1 {
		t.Errorf("token %d", got)
	}
	last, _ := n.backUp()
	doubledutch(t, "restore", last, "--data-dir", dir+"2").check(exitcode.Failure, "no epoch left")
	if _, err := os.Stat(dir + "2"); err == nil {
		t.Error("a directory was made")
	}
}

// A signal leaves no half file behind.
func TestInterruptedBackup(t *testing.T) {
	dir := t.TempDir()
	arrived := make(chan struct{})
	url, _ := fakeServer(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte("doubledutch-backup 1\n"))
		_ = http.NewResponseController(w).Flush()
		close(arrived)
		<-r.Context().Done()
	})
	cmd := doubledutch(t, "backup", filepath.Join(dir, "b"), "--server", url, "--timeout", "1m").command(t.Context())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-arrived
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != exitcode.Interrupted {
		t.Errorf("exit code %d", code)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (&interruptible{ctx, io.Discard}).Write(nil); exitcode.Of(err) != exitcode.Interrupted {
		t.Errorf("%v", err)
	}
}
