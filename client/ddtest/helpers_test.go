package ddtest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"testing"

	"github.com/doubledutch-lock/doubledutch/client/ddtest"
)

const (
	keyA = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	keyB = "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB"
)

// reply is what came back; status 0: nothing did.
type reply struct {
	status int
	Key    string
	Token  uint64
	Code   string
	Status any     // of a task; of a problem, a number
	Left   float64 `json:"expires_in"`
}

// ask sends one JSON request, to the endpoint at url.
func ask(ctx context.Context, c *http.Client, method, url, body string, headers ...string) (reply, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader([]byte(body)))
	if err != nil {
		return reply{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := c.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return reply{}, err
	}
	r := reply{status: res.StatusCode}
	return r, json.Unmarshal(text, &r)
}

// must is ask for a request that is answered.
func must(t *testing.T, s *ddtest.Server, method, path, body string, headers ...string) reply {
	t.Helper()
	r, err := ask(t.Context(), s.HTTPClient(), method, s.URL()+path, body, headers...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func acquire(t *testing.T, s *ddtest.Server, name, body string) reply {
	t.Helper()
	return must(t, s, "POST", "/v1/locks/"+name, body)
}

// want compares status and code.
func want(t *testing.T, r reply, status int, code string) {
	t.Helper()
	if r.status != status || r.Code != code {
		t.Errorf("got %d %q, want %d %q", r.status, r.Code, status, code)
	}
}
