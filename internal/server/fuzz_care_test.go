package server

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// looseCare is how encoding/json sees the bodies of asking and handing over.
type looseCare struct {
	Owner   string   `json:"owner"`
	Reason  string   `json:"reason"`
	Within  *float64 `json:"within"`
	Key     string   `json:"key"`
	To      string   `json:"to"`
	Session string   `json:"session"`
}

// FuzzCareBodies: a body that is accepted means the same to another JSON decoder, and everything else is refused without
// reaching the table.
func FuzzCareBodies(f *testing.F) {
	for _, s := range []string{
		``, `{}`, `{"reason":"r"}`, `{"reason":"r","owner":"o","within":1.5}`, `{"reason":"r","within":0}`, `{"reason":"r","within":1e99}`,
		`{"reason":"r","reason":"r"}`, `{"reason":null}`, `{"Reason":"r"}`, `{"reason":"\ud800"}`, `{"key":"` + plantedKey + `","to":"x"}`,
		`{"key":"` + plantedKey + `","to":"x","session":"` + plantedSession + `"}`, `{"key":"k","to":"x"}`, `{"reason":"r"}{}`, `{"reason":"a\u0000b"}`,
	} {
		f.Add(s)
	}
	s, e := echoServer(f)
	f.Fuzz(func(t *testing.T, body string) {
		for _, path := range []string{"/v1/locks/a/ask", "/v1/locks/a/handover"} {
			e.cmd = nil
			status, answer, _ := serve(s, "POST", path, body)
			if status != http.StatusOK {
				if e.cmd != nil || status < 400 || status >= 500 || !json.Valid([]byte(answer)) {
					t.Fatalf("%s %q: %d %q, asked for %v", path, body, status, answer, e.cmd)
				}
				continue
			}
			var loose looseCare
			dec := json.NewDecoder(strings.NewReader(body))
			dec.DisallowUnknownFields()
			if err := dec.Decode(&loose); err != nil {
				t.Fatalf("%q was accepted, but encoding/json says %v", body, err)
			}
			if a := e.cmd.GetAsk(); a != nil {
				within := 60.0
				if loose.Within != nil {
					within = *loose.Within
				}
				if a.GetReason() != loose.Reason || a.GetOwner() != loose.Owner || a.GetReason() == "" {
					t.Fatalf("%q asks for %v", body, a)
				}
				near(t, body, a.GetWithin(), within)
				continue
			}
			if h := e.cmd.GetHandOver(); h.GetKey() != loose.Key || h.GetTo() != loose.To || h.GetSession() != loose.Session || h.GetTo() == "" {
				t.Fatalf("%q asks for %v", body, h)
			}
		}
	})
}

// FuzzBreakQuery: a query that is accepted means the same to net/url, and everything else is refused without reaching the
// table. The same query is a bad one for the history, or it is answered.
func FuzzBreakQuery(f *testing.F) {
	for _, s := range []string{
		"", "reason=x", "reason=x&token=1", "reason=x&owner=o&token=18446744073709551615", "reason=%00&token=1", "reason=x&reason=y", "reason=%zz", "token=1",
		"reason=x&token=01", "reason=x;token=1", "at=2026-11-24T02:03:00Z", "limit=1&at=2026-11-24T02:03:00%2B01:00", "at=0000-01-01T00:00:00Z", "limit=%2B1",
	} {
		f.Add(s)
	}
	s, e := echoServer(f)
	f.Fuzz(func(t *testing.T, query string) {
		e.cmd = nil
		status, answer, ok := serve(s, "DELETE", "/v1/locks/a/holders?"+query, "")
		if !ok {
			return
		}
		if status != http.StatusOK {
			if e.cmd != nil || status < 400 || status >= 500 || !json.Valid([]byte(answer)) {
				t.Fatalf("%q: %d %q, asked for %v", query, status, answer, e.cmd)
			}
		} else {
			v, err := url.ParseQuery(query)
			b := e.cmd.GetBreak()
			if err != nil || b.GetReason() != v.Get("reason") || b.GetReason() == "" || b.GetOwner() != v.Get("owner") || b.GetUpToToken() == 0 || !v.Has("token") {
				t.Fatalf("%q asks for %v", query, b)
			}
		}
		if status, answer, _ := serve(s, "GET", "/v1/locks/a/history?"+query, ""); status >= 500 || !json.Valid([]byte(answer)) {
			t.Fatalf("%q: %d %q", query, status, answer)
		}
	})
}
