package server

import (
	"bytes"
	"html"
	"net/http"
	"strings"

	"github.com/prometheus/common/expfmt"

	"github.com/doubledutch-lock/doubledutch/api"
)

// healthz says that the process works. It asks nobody.
func (s *Server) healthz(c *call) error { return c.text("ok") }

// readyz says whether locks can be had here. The reason is for people, and has no names in it.
func (s *Server) readyz(c *call) error {
	if s.stopping.Load() {
		return fail(CodeUnavailable, "The server is stopping.")
	}
	if st := s.backend.Status(); !st.Ready {
		reason := "The server is not ready yet."
		if st.Reason != "" {
			reason = sentence(st.Reason)
		}
		return fail(CodeUnavailable, reason)
	}
	return c.text("ok")
}

var (
	yamlType = []string{"application/yaml"}
	htmlType = []string{"text/html; charset=utf-8"}
	pageCSP  = []string{"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"}
)

func (s *Server) openapiJSON(c *call) error { return c.answer(http.StatusOK, jsonType, api.JSON) }

func (s *Server) openapiYAML(c *call) error { return c.answer(http.StatusOK, yamlType, api.YAML) }

// frontPage says what this is, as a page for browsers and as text for the others.
func (s *Server) frontPage(c *call) error {
	text := s.frontText()
	if !strings.Contains(c.r.Header.Get("Accept"), "text/html") {
		return c.answer(http.StatusOK, plainType, []byte(text))
	}
	h := c.w.Header()
	h["Content-Security-Policy"] = pageCSP
	h["X-Frame-Options"] = []string{"DENY"}
	h["Referrer-Policy"] = []string{"no-referrer"}
	page := "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>DoubleDutch</title>" +
		"<style>body{font:16px/1.5 monospace;max-width:60rem;margin:3rem auto;padding:0 1rem;white-space:pre-wrap}</style><body>" +
		html.EscapeString(text) + "</body></html>\n"
	return c.answer(http.StatusOK, htmlType, []byte(page))
}

// frontText never repeats what the request said about the host: the address is the one that was bound.
func (s *Server) frontText() string {
	at := "http://" + DefaultListen
	if a := s.Addr(); a != nil {
		at = "http://" + a.String()
	}
	if s.cert != nil {
		at = strings.Replace(at, "http:", "https:", 1)
	}
	auth := ""
	if s.key.set {
		auth = " -H 'Authorization: Bearer …'"
	}
	lines := []string{
		"This is DoubleDutch, a lock service: whoever gets the key holds the lock until it is released or its time is up.",
		"",
		"Take a lock for 30 seconds; the answer is its key, or false if somebody else holds it:",
		"  curl" + auth + " " + at + "/getLock/my-lock",
		"Wait up to 10 seconds for it, and hold it for 60:",
		"  curl" + auth + " '" + at + "/getLock/my-lock/60?timeout=10'",
		"Give it back:",
		"  curl" + auth + " " + at + "/releaseLock/my-lock/KEY",
		"",
		"With JSON, renewal, fencing tokens, shared locks, semaphores and sessions:",
		"  curl" + auth + " -X POST " + at + "/v1/locks/my-lock -H 'Content-Type: application/json' -d '{\"ttl\": 60, \"wait\": 10}'",
		"  curl" + auth + " " + at + "/v1/locks",
		"",
		"Everything it can do: /openapi.json or /openapi.yaml. How it is: /healthz, /readyz, /metrics.",
		"",
	}
	return strings.Join(lines, "\n")
}

// metrics answers GET /metrics in the text format that every scraper reads.
func (s *Server) metrics(c *call) error {
	families, err := s.stats.registry.Gather()
	if err != nil && len(families) == 0 {
		return &Error{Code: CodeInternal, Detail: "The metrics could not be read.", cause: err}
	}
	var buf bytes.Buffer
	enc := expfmt.NewEncoder(&buf, expfmt.NewFormat(expfmt.TypeTextPlain))
	for _, f := range families {
		if err := enc.Encode(f); err != nil {
			return &Error{Code: CodeInternal, Detail: "The metrics could not be written.", cause: err}
		}
	}
	return c.answer(http.StatusOK, metricsType, buf.Bytes())
}

var metricsType = []string{string(expfmt.NewFormat(expfmt.TypeTextPlain))}
