package server

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/locktable"
	"github.com/doubledutch-lock/doubledutch/internal/node"
)

func TestClassicConversation(t *testing.T) {
	d := openDoor(t)
	a := d.want(200, "*", "GET", "/getlock?lockname=my-lock", "")
	if a.header.Get("Content-Type") != "application/json" {
		t.Errorf("content type %q", a.header.Get("Content-Type"))
	}
	token, _ := a.json(t)["sessiontoken"].(string)
	want := `{"servername":"DoubleDutch/test","lockname":"my-lock","sessiontoken":"` + token + `","lockacquired":true}`
	if a.body != want || !keyPattern.MatchString(token) {
		t.Errorf("%s, want %s", a.body, want)
	}
	d.want(200, `{"servername":"DoubleDutch/test","lockname":"my-lock","sessiontoken":"","lockacquired":false}`, "GET", "/getlock?lockname=my-lock&timeout=0.02&lifetime=5", "")
	no := `{"servername":"DoubleDutch/test","lockname":"my-lock","lockreleased":false}`
	d.want(400, no, "DELETE", "/releaselock?lockname=my-lock&token="+strings.Repeat("x", 32), "")
	d.want(400, no, "DELETE", "/releaselock?lockname=my-lock&token=short", "")
	d.want(200, `{"servername":"DoubleDutch/test","lockname":"my-lock","lockreleased":true}`, "DELETE", "/releaselock?lockname=my-lock&token="+token, "")
	d.want(400, no, "DELETE", "/releaselock?lockname=my-lock&token="+token, "")
}

func TestClassicDefaultsAndNames(t *testing.T) {
	d := openDoor(t)
	d.want(200, "*", "GET", "/getlock?lockname=a%2Fb+c%22&unknown=1&auth=", "")
	a := d.backend.acquires[0]
	if a.GetName() != `a/b c"` || time.Duration(a.GetTtl()) != 30*time.Second || a.GetWait() != 0 {
		t.Errorf("asked for %v", a)
	}
	d.want(200, "*", "GET", "/getlock?lockname=b&lifetime=1.5&timeout=-1", "")
	if a = d.backend.acquires[1]; time.Duration(a.GetTtl()) != 1500*time.Millisecond || a.GetWait() >= 0 {
		t.Errorf("asked for %v", a)
	}
}

func TestClassicRefusesBadInput(t *testing.T) {
	d := openDoor(t)
	for _, c := range [][2]string{
		{"GET", "/getlock"},
		{"GET", "/getlock?lockname="},
		{"GET", "/getlock?lockname=a&lockname=b"},
		{"GET", "/getlock?LOCKNAME=a"},
		{"GET", "/getlock?lockname=.."},
		{"GET", "/getlock?lockname=%00"},
		{"GET", "/getlock?lockname=%FF"},
		{"GET", "/getlock?lockname=a&timeout=x"},
		{"GET", "/getlock?lockname=a&timeout="},
		{"GET", "/getlock?lockname=a&lifetime=0"},
		{"GET", "/getlock?lockname=a&lifetime=1e3"},
		{"GET", "/getlock?lockname=a&lifetime=-1"},
		{"GET", "/getlock?lockname=a&lifetime=99999999999"},
		{"GET", "/getlock?lockname=a&lifetime=1&lifetime=2"},
		{"GET", "/getlock?lockname=%zz"},
		{"GET", "/getlock?lockname=a&lifetime="},
		{"DELETE", "/releaselock"},
		{"DELETE", "/releaselock?lockname=a"},
		{"DELETE", "/releaselock?token=" + plantedKey},
		{"DELETE", "/releaselock?lockname=..&token=" + plantedKey},
	} {
		m := d.want(400, "*", c[0], c[1], "").json(t)
		if e, _ := m["error"].(string); m["servername"] != "DoubleDutch/test" || !strings.HasSuffix(e, ".") {
			t.Errorf("%s: %v", c[1], m)
		}
	}
	if n := d.backend.asked(); n != 0 {
		t.Errorf("%d acquires reached the table", n)
	}
}

func TestClassicStatus(t *testing.T) {
	d := openDoor(t, func(c *Config) { c.ServerName = `my "server"` })
	d.want(200, `{"servername":"my \"server\"","status":"ok","locks":[]}`, "GET", "/status", "")
	// More than one step of reading and more than one piece of writing.
	const n = 3*listStep + 7
	for i := range n {
		d.take(fmt.Sprintf("lock-%04d", i))
	}
	d.want(200, "*", "POST", "/v1/locks/lock-0000x", `{"mode":"shared","ttl":100}`)
	d.want(200, "*", "POST", "/v1/locks/lock-0000x", `{"mode":"shared","ttl":200}`)
	d.want(200, "*", "POST", "/v1/locks/delayed", `{"ttl":0.001,"lock_delay":60}`)
	d.until("expiry", func(tb *locktable.Table) bool {
		l, _ := tb.Lock("delayed", 1)
		return l.NumHolders == 0
	})
	locks, _ := d.get("/status").json(t)["locks"].([]any)
	if len(locks) != n+1 {
		t.Fatalf("%d locks, want %d", len(locks), n+1)
	}
	last := ""
	for _, l := range locks {
		m, _ := l.(map[string]any)
		name, _ := m["lockname"].(string)
		rest, _ := m["remaining"].(float64)
		if name <= last || m["sessiontoken"] != "redacted" || rest <= 0 || rest > 200 {
			t.Errorf("after %q: %v", last, m)
		}
		if name == "lock-0000x" && rest < 100 {
			t.Errorf("the hold that stays longest should tell: %v", m)
		}
		last = name
	}
}

// TestBrokenListIsCut: when the table cannot be read to the end, the client must not take what it got for the whole.
func TestBrokenListIsCut(t *testing.T) {
	d := openDoor(t)
	for i := range 3 * listStep {
		d.take(fmt.Sprintf("lock-%04d", i))
	}
	d.server.backend = &failsLater{Backend: d.backend, good: 2}
	got := d.raw("GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(strings.NewReader(got)), nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(res.Body); err == nil || len(body) == 0 {
		t.Errorf("%d bytes, then %v", len(body), err)
	}
	d.want(503, "*", "GET", "/status", "")
}

// failsLater is a Backend that can be read only so often.
type failsLater struct {
	Backend
	good int
}

func (b *failsLater) Read(ctx context.Context, f func(*locktable.Table, locktable.Time)) error {
	if b.good--; b.good < 0 {
		return node.ErrUnavailable
	}
	return b.Backend.Read(ctx, f)
}
