package server

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"github.com/doubledutch-lock/doubledutch/internal/backup"
	"github.com/doubledutch-lock/doubledutch/internal/node"
)

const backupPath = "/v1/cluster/backup"

// backer is a Backend whose backups are made up.
type backer struct {
	Backend
	err    error
	read   io.Reader
	closed atomic.Int64
}

func (b *backer) Backup(context.Context, string) (io.ReadCloser, error) {
	if b.err != nil {
		return nil, b.err
	}
	return &madeUp{b.read, b}, nil
}

// madeUp is such a backup.
type madeUp struct {
	io.Reader
	of *backer
}

func (m *madeUp) Close() error {
	m.of.closed.Add(1)
	return nil
}

// TestBackup asks a real node.
func TestBackup(t *testing.T) {
	d := openDoor(t)
	d.take("a")
	a := d.want(200, "*", "GET", backupPath, "")
	if a.header.Get("Content-Type") != "application/octet-stream" || !strings.Contains(a.header.Get("Content-Disposition"), "attachment") {
		t.Errorf("%v", a.header)
	}
	i, err := node.ReadBackup(strings.NewReader(a.body))
	if err != nil {
		t.Fatal(err)
	}
	if h := i.Header(); h.Holds != 1 || h.Server != "test" || h.ClusterID != d.backend.Status().ClusterID {
		t.Errorf("%+v", h)
	}
	if !strings.Contains(d.logs.String(), "a backup was asked for") {
		t.Error("nobody learns of it")
	}
	d.want(405, "*", "HEAD", backupPath, "")
	d.want(200, "*", "GET", backupPath, "") // the first one was closed
}

func TestBackupRefusals(t *testing.T) {
	d := openDoor(t)
	b := &backer{Backend: d.backend.Backend}
	d.backend.Backend = b
	for _, tt := range []struct {
		err    error
		status int
		code   Code
		detail string
	}{
		{node.ErrUnavailable, 503, CodeUnavailable, "majority"},
		{node.ErrStopping, 503, CodeUnavailable, "stopping"},
		{node.ErrOverloaded, 429, CodeOverloaded, "Another backup"},
		{errors.New("odd"), 500, CodeInternal, "wrong"},
	} {
		b.err = tt.err
		p := d.problem(tt.status, tt.code, "GET", backupPath, "")
		if detail, _ := p["detail"].(string); !strings.Contains(detail, tt.detail) {
			t.Errorf("%v is told as %q", tt.err, detail)
		}
	}
	// What fails before the first piece is told; what fails later cuts the answer off.
	b.err = nil
	b.read = iotest.ErrReader(node.ErrStopping)
	d.problem(503, CodeUnavailable, "GET", backupPath, "")
	b.read = io.MultiReader(bytes.NewReader(make([]byte, 3*backupPiece/2)), iotest.ErrReader(node.ErrStopping))
	if a, err := d.unchecked(backupPath); err == nil {
		t.Errorf("half a backup was answered as a whole one: %d, %d bytes", a.status, len(a.body))
	}
	if n := b.closed.Load(); n != 2 {
		t.Errorf("%d of 2 were closed", n)
	}
	if strings.Contains(d.logs.String(), "complete=true") {
		t.Error("half a backup was logged as a whole one")
	}
}

// unchecked asks without the checker, which wants a whole answer.
func (d *door) unchecked(path string) (*answer, error) {
	req, err := http.NewRequestWithContext(d.t.Context(), http.MethodGet, d.url+path, http.NoBody)
	if err != nil {
		return nil, err
	}
	res, err := d.check.base.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	return &answer{res.StatusCode, res.Header, string(data)}, err
}

// TestBackupStaysOnTheMachine: without an API key, only clients on this machine get all keys.
func TestBackupStaysOnTheMachine(t *testing.T) {
	for addr, near := range map[string]bool{
		"127.0.0.1:5": true, "127.8.8.8:5": true, "[::1]:5": true, "[::ffff:127.0.0.1]:5": true,
		"10.0.0.1:5": false, "192.168.1.1:5": false, "[2001:db8::1]:5": false, "[fe80::1%eth0]:5": false, "0.0.0.0:5": false, "": false, "@": false, "localhost:5": false,
	} {
		if got := fromLoopback(&http.Request{RemoteAddr: addr}); got != near {
			t.Errorf("%q: %v", addr, got)
		}
	}
	d := openDoor(t)
	ask := func(from, auth string) *recorder {
		r := asServerSees(mustRequest(t, http.MethodGet, d.url+backupPath))
		r.RemoteAddr, r.Host, r.Header = from, "localhost", http.Header{}
		if auth != "" {
			r.Header.Set("Authorization", "Bearer "+auth)
		}
		w := &recorder{header: http.Header{}}
		d.server.ServeHTTP(w, r)
		return w
	}
	if w := ask("10.0.0.1:5", ""); w.status != 401 || bytes.Contains(w.body.Bytes(), []byte("doubledutch-backup")) {
		t.Errorf("from elsewhere without an API key: %d", w.status)
	}
	if w := ask("127.0.0.1:5", ""); w.status != 200 {
		t.Errorf("from here: %d", w.status)
	}
	d.server.key = newAPIKey(plantedAPIKey)
	if w := ask("127.0.0.1:5", ""); w.status != 401 {
		t.Errorf("from here without the API key: %d", w.status)
	}
	w := ask("10.0.0.1:5", plantedAPIKey)
	if _, _, err := backup.Verify(&w.body); w.status != 200 || err != nil {
		t.Errorf("from elsewhere with the API key: %d, %v", w.status, err)
	}
}

// recorder is a ResponseWriter.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *recorder) Header() http.Header         { return w.header }
func (w *recorder) WriteHeader(status int)      { w.status = status }
func (w *recorder) Write(p []byte) (int, error) { return w.body.Write(p) }
