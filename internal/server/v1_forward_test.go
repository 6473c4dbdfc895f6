package server

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// These are the requests that the proxies send, as they are on the wire. The client's part of each is a POST with a body, an
// Authorization of its own, and a query that tries to speak for the proxy.
var proxyRequests = map[string]string{
	// auth_request: GET in HTTP/1.0, with the length of the client's body if the configuration forgets to clear it, without the body.
	"nginx": "GET /v1/forward-auth?name=report&auth={key} HTTP/1.0\r\nHost: localhost:7333\r\nX-Original-URI: /data?name=mine\r\nConnection: close\r\n" +
		"Content-Length: 70000\r\nContent-Type: application/json\r\nAuthorization: Bearer of-the-client\r\nSec-Fetch-Site: cross-site\r\nExpect: 100-continue\r\nLock-Token: {token}\r\n\r\n",
	// ForwardAuth: GET to a fixed address, the client's request in X-Forwarded-….
	"Traefik": "GET /v1/forward-auth?name=report&auth={key} HTTP/1.1\r\nHost: localhost:7333\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\nAuthorization: Bearer of-the-client\r\n" +
		"Lock-Token: {token}\r\nX-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Host: app.example\r\nX-Forwarded-Method: POST\r\nX-Forwarded-Port: 443\r\nX-Forwarded-Proto: https\r\n" +
		"X-Forwarded-Server: 4f1c\r\nX-Forwarded-Uri: /data?name=mine\r\nX-Real-Ip: 192.0.2.7\r\nAccept-Encoding: gzip\r\n\r\n",
	// ext_authz over HTTP: the client's method, and its path behind the prefix; headers_to_add override the client's.
	"Envoy": "POST /v1/forward-auth/data//x%2F..%2Fy/../z?name=mine&name=more&auth=of-the-client HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\nlock-token: {token}\r\n" +
		"lock-name: report\r\nauthorization: Bearer {key}\r\nx-envoy-internal: true\r\nx-forwarded-for: 192.0.2.7\r\nx-envoy-expected-rq-timeout-ms: 200\r\n\r\n",
}

func TestProxiesAsk(t *testing.T) {
	for proxy, request := range proxyRequests {
		for _, apiKey := range []string{"", plantedAPIKey} {
			t.Run(fmt.Sprintf("%s, key %t", proxy, apiKey != ""), func(t *testing.T) {
				d := openDoor(t, func(c *Config) { c.APIKey = apiKey })
				ask := func(token, apiKey string, status int, want string) {
					t.Helper()
					a := d.wire(strings.NewReplacer("{token}", token, "{key}", apiKey).Replace(request))
					if a.status != status || !strings.Contains(a.body, want) {
						t.Errorf("token %q: %d %q", token, a.status, a.body)
					}
					if status == 200 && (a.body != "" || a.header.Get("Lock-Name") != "report" || a.header.Get("Lock-Token") != token) {
						t.Errorf("token %q: %v %q", token, a.header, a.body)
					}
				}
				bearer := []string{"Authorization", "Bearer " + apiKey}
				g := d.do("POST", "/v1/locks/report", `{"key":"`+key(1)+`"}`, bearer...).json(t)
				m := d.do("POST", "/v1/locks/mine", `{"key":"`+key(2)+`"}`, bearer...).json(t)
				token, mine := fmt.Sprintf("%.0f", g["token"]), fmt.Sprintf("%.0f", m["token"])
				ask(token, apiKey, 200, "")
				ask(mine, apiKey, 403, `"code":"stale_token"`) // good, but for another lock
				for _, bad := range []string{"0", "-1", "1e3", "x", "9007199254740993", token + "," + token} {
					ask(bad, apiKey, 403, `"code":"stale_token"`)
				}
				ask("", apiKey, 401, `"code":"token_missing"`)
				if apiKey != "" {
					ask(token, "wrong", 401, `"code":"unauthorized"`)
				}
				d.do("DELETE", "/v1/locks/report", "", append(bearer, "Lock-Key", key(1))...)
				ask(token, apiKey, 403, `"code":"stale_token"`)
			})
		}
	}
}

// wire sends a request as it is and reads the answer.
func (d *door) wire(request string) *answer {
	d.t.Helper()
	c := d.dial()
	defer c.Close()
	if _, err := io.WriteString(c, request); err != nil {
		d.t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		d.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	return &answer{res.StatusCode, res.Header, string(body)}
}

func TestForwardAuth(t *testing.T) {
	d := openDoor(t)
	token := fmt.Sprintf("%.0f", d.ok("POST", "/v1/locks/caf%C3%A9%20%2F1", `{}`)["token"])
	name := "café /1"
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"} {
		for _, path := range []string{"/v1/forward-auth", "/v1/forward-auth?", "/v1/forward-auth/", "/v1/forward-auth/a", "/v1/forward-auth/a/b/c/d/e/f/g/h?name=x"} {
			a := d.want(200, "", method, path, "", "Lock-Name", name, "Lock-Token", token)
			if a.header.Get("Lock-Name") != name || a.header.Get("Lock-Token") != token {
				t.Errorf("%s %s: %v", method, path, a.header)
			}
		}
		d.want(200, "", method, "/v1/forward-auth?name=caf%C3%A9%20/1&other=1", "", "Lock-Token", token)
		d.want(200, "", method, "/v1/forward-auth?name=caf%C3%A9+/1", "", "Lock-Token", token, "Lock-Name", name)
	}
	d.want(200, "", "POST", "/v1/forward-auth", `{"a body":"that nobody reads`, "Lock-Name", name, "Lock-Token", token)
	for _, c := range []struct {
		status int
		code   Code
		path   string
		header []string
	}{
		{401, CodeTokenMissing, "/v1/forward-auth", nil},
		{401, CodeTokenMissing, "/v1/forward-auth", []string{"Lock-Token", token}},
		{401, CodeTokenMissing, "/v1/forward-auth?name=x", []string{"Lock-Name", "x"}},
		{401, CodeTokenMissing, "/v1/forward-auth/x?name=x", []string{"Lock-Token", token}}, // the query is the client's
		{403, CodeStaleToken, "/v1/forward-auth?name=x", []string{"Lock-Token", token}},
		{403, CodeStaleToken, "/v1/forward-auth?name=x", []string{"Lock-Token", token, "Lock-Name", name}},
		{403, CodeStaleToken, "/v1/forward-auth?name=caf%C3%A9+/1", []string{"Lock-Token", token, "Lock-Name", "x"}},
		{400, CodeInvalidField, "/v1/forward-auth?name=x&name=x", []string{"Lock-Token", token}},
		{400, CodeInvalidField, "/v1/forward-auth?name=", []string{"Lock-Token", token, "Lock-Name", name}},
		{400, CodeInvalidField, "/v1/forward-auth?Name=x", []string{"Lock-Token", token, "Lock-Name", name}},
		{400, CodeInvalidField, "/v1/forward-auth?lock=x&auth=", []string{"Lock-Token", token, "Lock-Name", name}},
		{400, CodeInvalidRequest, "/v1/forward-auth?name=x;y", []string{"Lock-Token", token}},
		{400, CodeInvalidName, "/v1/forward-auth?name=..", []string{"Lock-Token", token}},
		{404, CodeNotFound, "/v1/forward-authx", []string{"Lock-Token", token, "Lock-Name", name}},
		{404, CodeNotFound, "/v1%2Fforward-auth/x", []string{"Lock-Token", token, "Lock-Name", name}},
	} {
		a := d.do("GET", c.path, "", c.header...)
		if a.status != c.status || a.json(t)["code"] != string(c.code) {
			t.Errorf("%s with %v: %d %s", c.path, c.header, a.status, a.body)
		}
		if (a.header.Get("WWW-Authenticate") != "") != (c.status == 401) {
			t.Errorf("%s: WWW-Authenticate is %q", c.path, a.header.Get("WWW-Authenticate"))
		}
	}
	a := d.wire("GET /v1/forward-auth HTTP/1.1\r\nHost: localhost\r\nLock-Name: x\r\nLock-Token: 1\r\nLock-Token: 2\r\n\r\n")
	if a.status != 400 || !strings.Contains(a.body, "more than once") {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// A body that does not come does not hold up the answer, whatever it is.
func TestForwardAuthReadsNoBody(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Server, ln *pipeListener) {
		for _, length := range []string{"Content-Length: 10", "Content-Length: 1000000", "Transfer-Encoding: chunked"} {
			for token, want := range map[string]int{"Lock-Token: 1": 403, "X: y": 401} {
				c := ln.dial()
				start := time.Now()
				res := ask(t, c, "POST /v1/forward-auth/a HTTP/1.1\r\nHost: localhost\r\n"+token+"\r\nLock-Name: x\r\n"+length+"\r\n\r\n")
				if res.StatusCode != want || time.Since(start) > time.Second {
					t.Errorf("%s: %d after %v", length, res.StatusCode, time.Since(start))
				}
				_ = c.Close()
			}
		}
	})
}

func TestVerifyMany(t *testing.T) {
	d := openDoor(t)
	token := func(name, body string) string {
		t.Helper()
		return fmt.Sprintf("%.0f", d.ok("POST", "/v1/locks/"+name, body)["token"])
	}
	a := token("a", `{"key":"`+key(1)+`"}`)
	old, s := token("s", `{"mode":"shared"}`), token("s", `{"mode":"shared"}`)
	element := func(name, token string) string { return `{"name":"` + name + `","token":` + token + `}` }
	ask := func(all bool, elements ...string) {
		t.Helper()
		p := d.ok("POST", "/v1/verify", `{"tokens":[`+strings.Join(elements, ",")+`]}`)
		if results, _ := p["results"].([]any); p["valid"] != all || len(results) != len(elements) {
			t.Errorf("%v: %v", elements, p)
		}
	}
	ask(true, element("a", a))
	ask(true, element("a", a), element("s", s), element("a", a))
	ask(false, element("a", a), element("s", old))
	many := make([]string, maxVerified)
	for i := range many {
		many[i] = element("a", a)
	}
	ask(true, many...)
	d.problem(400, CodeInvalidField, "POST", "/v1/verify", `{"tokens":[`+strings.Join(append(many, many[0]), ",")+`]}`)
	d.want(200, `{"valid":false,"results":[{"name":"a","token":`+s+`,"valid":false},{"name":"b","token":1,"valid":false},{"name":"a","token":`+a+`,"valid":true}]}`,
		"POST", "/v1/verify", `{"tokens":[`+element("a", s)+`,`+element("b", "1")+`,`+element("a", a)+`]}`)
	d.want(200, `{"released":true}`, "DELETE", "/v1/locks/a", "", "Lock-Key", key(1))
	ask(false, element("a", a))
	for _, bad := range []string{
		`[]`, `{}`, `7`, `null`, `[7]`, `["a"]`, `[{}]`, `[{"name":"a"}]`, `[{"token":1}]`, `[{"name":"","token":1}]`, `[{"name":"a","token":0}]`,
		`[{"name":"a","token":1.5}]`, `[{"name":"a","token":1,"x":1}]`, `[{"name":"a","name":"a","token":1}]`,
	} {
		d.problem(400, CodeInvalidField, "POST", "/v1/verify", `{"tokens":`+bad+`}`)
	}
	d.problem(400, CodeInvalidField, "POST", "/v1/verify", `{"name":"a","token":1,"tokens":[`+element("a", a)+`]}`)
	d.problem(400, CodeInvalidName, "POST", "/v1/verify", `{"tokens":[`+element("a", a)+`,`+element("..", a)+`]}`)
}
