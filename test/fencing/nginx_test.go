package fencing

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/doubledutch-lock/doubledutch/client/ddtest"
)

// innocent is a service that knows nothing of tokens. It counts what reaches it, and answers what it was sent.
type innocent struct {
	*httptest.Server
	reached atomic.Int64
}

func newInnocent(t *testing.T) *innocent {
	s := &innocent{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.reached.Add(1)
		body, _ := io.ReadAll(r.Body)
		_, _ = io.WriteString(w, r.Method+" "+r.URL.Path+" "+string(body))
	}))
	t.Cleanup(s.Close)
	return s
}

func address(url string) string { return strings.TrimPrefix(url, "http://") }

// startNginx runs an nginx with the configuration of the page, and returns a client that reaches it whatever host it asks for.
func startNginx(t *testing.T, dd, service string) *http.Client {
	t.Helper()
	program := find(t, "nginx", "nginx")
	p, err := newPlace("www-data")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.remove)
	socket := filepath.Join(p.dir, "door")
	server := strings.NewReplacer("127.0.0.1:8080", "unix:"+socket, "127.0.0.1:8081", address(service), "127.0.0.1:7333", address(dd)).
		Replace(recipe(t, "nginx"))
	temp := ""
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		temp += kind + "_temp_path " + p.dir + "/" + kind + ";\n"
	}
	config := "daemon off;\nmaster_process off;\npid " + p.dir + "/pid;\nerror_log stderr;\nevents {}\nhttp {\naccess_log off;\n" + temp + server + "}\n"
	file := filepath.Join(p.dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil { //nolint:gosec // its reader is another user
		t.Fatal(err)
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}
	ready := func() error {
		conn, err := dial(context.Background(), "", "")
		if err == nil {
			err = conn.Close()
		}
		return err
	}
	s, err := p.start(ready, program, "-e", "stderr", "-p", p.dir, "-c", file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.stop(syscall.SIGTERM) })
	tr := &http.Transport{DialContext: dial}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func TestRecipeNginx(t *testing.T) {
	t.Parallel()
	dd, service := ddtest.Start(t), newInnocent(t)
	c := startNginx(t, dd.URL(), service.URL)
	ask := func(token uint64, header ...string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://reports.example/a%2Fb?name=other", strings.NewReader("body"))
		if err != nil {
			t.Fatal(err)
		}
		if token != 0 {
			req.Header.Set("Lock-Token", strconv.FormatUint(token, 10))
		}
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		res, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		body, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(body)
	}
	passes := func(token uint64) {
		t.Helper()
		before := service.reached.Load()
		status, body := ask(token)
		if status != http.StatusOK || body != "POST /a/b body" || service.reached.Load() != before+1 {
			t.Errorf("token %d: %d %q", token, status, body)
		}
	}
	refused := func(want int, token uint64, header ...string) {
		t.Helper()
		before := service.reached.Load()
		if status, body := ask(token, header...); status != want || service.reached.Load() != before {
			t.Errorf("token %d: %d %q, want %d", token, status, body, want)
		}
	}
	old := dd.Take("reports")
	passes(old.Token)
	dd.Expire("reports")
	refused(http.StatusForbidden, old.Token)
	mine := dd.Take("reports")
	refused(http.StatusForbidden, old.Token)
	passes(mine.Token)
	refused(http.StatusUnauthorized, 0)
	other := dd.Take("other")
	refused(http.StatusForbidden, other.Token)
	refused(http.StatusForbidden, other.Token, "Lock-Name", "other")
	mine.Release()
	refused(http.StatusForbidden, mine.Token)
	dd.Kill(0)
	refused(http.StatusInternalServerError, mine.Token)
	dd.Revive(0)
	passes(dd.Take("reports").Token)
}
