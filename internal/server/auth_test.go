package server

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// paramFor fills the pattern of a route with harmless values.
var paramFor = strings.NewReplacer("{name}", "a", "{lifetime}", "30", "{key}", plantedKey, "{id}", plantedSession, "{path}", "any/where")

// requestFor is a request that the route would answer.
func requestFor(rt *route) (path, body string, headers []string) {
	path = paramFor.Replace(rt.pattern)
	switch rt.pattern {
	case "/getlock":
		path += "?lockname=a"
	case "/releaselock":
		path += "?lockname=a&token=" + plantedKey
	}
	if strings.HasSuffix(rt.pattern, "/renew") {
		body = `{"key":"` + plantedKey + `"}`
	}
	if rt.pattern == "/v1/sessions/{id}/renew" {
		body = ""
	}
	return path, body, []string{"Lock-Key", plantedKey}
}

func withQuery(path, q string) string {
	if strings.Contains(path, "?") {
		return path + "&" + q
	}
	return path + "?" + q
}

// TestAuthMatrix tries every route with every kind of credential.
func TestAuthMatrix(t *testing.T) {
	d := openDoor(t, func(c *Config) { c.APIKey = plantedAPIKey })
	for _, rt := range routeTable() {
		path, body, headers := requestFor(rt)
		send := func(path string, more ...string) int {
			t.Helper()
			a := d.do(rt.method, path, body, append(headers, more...)...)
			if strings.Contains(a.body, string(CodeTokenMissing)) {
				return http.StatusOK // it has got past the key
			}
			return a.status
		}
		open := rt.auth == authNone
		inQuery := rt.auth == authQuery || rt.auth == authProxy
		missing := http.StatusUnauthorized
		if rt.pattern == "/status" {
			missing = http.StatusBadRequest
		}
		for _, c := range []struct {
			what   string
			path   string
			header []string
			refuse int // 0: let through
		}{
			{"nothing", path, nil, missing},
			{"empty bearer", path, []string{"Authorization", "Bearer "}, missing},
			{"wrong bearer", path, []string{"Authorization", "Bearer wrong"}, 401},
			{"key with a tail", path, []string{"Authorization", "Bearer " + plantedAPIKey + "x"}, 401},
			{"other scheme", path, []string{"Authorization", "Basic " + plantedAPIKey}, missing},
			{"bare key", path, []string{"Authorization", plantedAPIKey}, missing},
			{"other header", path, []string{"X-Api-Key", plantedAPIKey}, missing},
			{"right bearer", path, []string{"Authorization", "Bearer " + plantedAPIKey}, 0},
			{"right bearer, other case", path, []string{"Authorization", "bEARER " + plantedAPIKey}, 0},
			{"wrong query", withQuery(path, "auth=wrong"), nil, choose(inQuery, 401, missing)},
			{"query twice", withQuery(path, "auth=wrong&auth="+plantedAPIKey), nil, missing},
			{"right query", withQuery(path, "auth="+plantedAPIKey), nil, choose(inQuery, 0, missing)},
		} {
			if open {
				c.refuse = 0
			}
			got := send(c.path, c.header...)
			if c.refuse == 0 && (got == 401 || got == 403) || c.refuse != 0 && got != c.refuse {
				t.Errorf("%s %s with %s: %d, want %d", rt.method, rt.pattern, c.what, got, c.refuse)
			}
		}
	}
}

// TestAuthRulesAreThoseOfTheDocument: which route wants what is written down twice, and must agree.
func TestAuthRulesAreThoseOfTheDocument(t *testing.T) {
	doc, err := document()
	if err != nil {
		t.Fatal(err)
	}
	for _, rt := range routeTable() {
		security := doc.Paths.Value(rt.pattern).GetOperation(rt.method).Security
		want := authBearer
		if security != nil {
			want = authNone
			for _, s := range *security {
				if _, ok := s["query"]; ok {
					want = authQuery
				}
				if rt.any && want == authQuery {
					want = authProxy
				}
			}
		}
		if rt.auth != want {
			t.Errorf("%s %s has rule %d, the document says %d", rt.method, rt.pattern, rt.auth, want)
		}
		if health := rt.pattern == "/healthz" || rt.pattern == "/readyz"; (rt.auth == authNone) != health {
			t.Errorf("%s %s is open to everybody", rt.method, rt.pattern)
		}
	}
}

func choose(yes bool, a, b int) int {
	if yes {
		return a
	}
	return b
}

// TestNothingIsTakenWithoutKey shows that the guard stands before the handlers.
func TestNothingIsTakenWithoutKey(t *testing.T) {
	d := openDoor(t, func(c *Config) { c.APIKey = plantedAPIKey })
	for _, rt := range routeTable() {
		path, body, headers := requestFor(rt)
		d.do(rt.method, path, body, headers...)
	}
	if n := d.backend.asked(); n != 0 {
		t.Errorf("%d acquires reached the table", n)
	}
}

// TestRefusalsComeBeforeTheBody sends the header of a request and nothing else: the refusal must not wait for the rest.
func TestRefusalsComeBeforeTheBody(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Server, ln *pipeListener) {
		for _, length := range []string{"Content-Length: 10", "Content-Length: 1000000", "Transfer-Encoding: chunked"} {
			for path, want := range map[string]int{"/v1/locks/a": 401, "/nowhere": 404, "/healthz": 405} {
				s.key = newAPIKey(plantedAPIKey)
				c := ln.dial()
				start := time.Now()
				res := ask(t, c, "POST "+path+" HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"+length+"\r\n\r\n")
				if res.StatusCode != want || time.Since(start) > time.Second {
					t.Errorf("%s, %s: %d after %v", path, length, res.StatusCode, time.Since(start))
				}
				_ = c.Close()
			}
		}
	})
}

func TestHostsOnLoopback(t *testing.T) {
	d := openDoor(t, func(c *Config) { c.AllowedHosts = []string{"Locks.Example"} })
	for host, status := range map[string]int{
		"localhost": 200, "LOCALHOST:80": 200, "a.localhost:1": 200, "127.0.0.1": 200, "127.9.9.9:7": 200, "[::1]:7333": 200, "[::1]": 200,
		"localhost.": 200, "locks.example": 200, "locks.example:7333": 200, "LOCKS.example.": 200,
		"evil.example": 421, "evil.example:7333": 421, "localhost.evil.example": 421, "127.0.0.1.nip.io": 421, "192.168.0.1": 421,
		"notlocalhost": 421, "[::2]:80": 421, "127.0.0.1.evil": 421, "0.0.0.0": 421,
	} {
		for _, path := range []string{"/v1/locks", "/status", "/", "/metrics"} {
			d.want(status, "*", "GET", path, "", "Host", host)
		}
		d.want(200, "ok", "GET", "/healthz", "", "Host", host)
		if a := d.get("/getLock/a", "Host", host); a.status != status {
			t.Errorf("seed with %s: %d", host, a.status)
		}
	}
	if got := d.raw("GET /getLock/old HTTP/1.0\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.0 200") {
		t.Errorf("a client without Host got %q", got)
	}
}

func TestAnyHostWithKey(t *testing.T) {
	d := openDoor(t, func(c *Config) { c.APIKey = plantedAPIKey })
	d.want(200, "*", "GET", "/v1/locks", "", "Host", "locks.example", "Authorization", "Bearer "+plantedAPIKey)
}

func TestOtherSitesAreRefused(t *testing.T) {
	d := openDoor(t)
	for _, rt := range routeTable() {
		path, body, headers := requestFor(rt)
		a := d.do(rt.method, path, body, append(headers, "Sec-Fetch-Site", "cross-site")...)
		free := rt.auth == authNone || rt.linkable
		if (a.status == 403) == free {
			t.Errorf("%s %s: %d", rt.method, rt.pattern, a.status)
		}
	}
	if n := d.backend.asked(); n != 0 {
		t.Errorf("%d acquires reached the table", n)
	}
	for _, site := range []string{"same-origin", "same-site", "none"} {
		d.want(200, "*", "GET", "/v1/locks", "", "Sec-Fetch-Site", site)
	}
	for _, a := range []*answer{d.get("/v1/locks", "Origin", "http://evil.example"), d.do("OPTIONS", "/v1/locks/a", "", "Origin", "http://evil.example", "Access-Control-Request-Method", "POST")} {
		for h := range a.header {
			if strings.HasPrefix(h, "Access-Control") {
				t.Errorf("CORS is on: %s", h)
			}
		}
	}
}
