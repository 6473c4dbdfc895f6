package server

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"

	"github.com/doubledutch-lock/doubledutch/api"
)

// document is the OpenAPI document, made stricter: an answer may have no member that it does not describe.
var document = sync.OnceValues(func() (*openapi3.T, error) {
	doc, err := openapi3.NewLoader().LoadFromData(api.JSON)
	if err != nil {
		return nil, err
	}
	no := false
	seen := map[*openapi3.Schema]bool{}
	var tighten func(*openapi3.SchemaRef)
	tighten = func(ref *openapi3.SchemaRef) {
		if ref == nil || ref.Value == nil || seen[ref.Value] {
			return
		}
		s := ref.Value
		seen[s] = true
		if len(s.Properties) > 0 {
			s.AdditionalProperties = openapi3.AdditionalProperties{Has: &no}
		}
		for _, p := range s.Properties {
			tighten(p)
		}
		tighten(s.Items)
		for _, p := range s.OneOf {
			tighten(p)
		}
	}
	for _, s := range doc.Components.Schemas {
		tighten(s)
	}
	for _, item := range doc.Paths.Map() {
		for _, op := range item.Operations() {
			for _, r := range op.Responses.Map() {
				for _, m := range r.Value.Content {
					tighten(m.Schema)
				}
			}
		}
	}
	return doc, nil
})

// checker is a RoundTripper that holds every answer against the document.
type checker struct {
	t      *testing.T
	server *Server
	base   *http.Transport
	doc    *openapi3.T
}

func newChecker(t *testing.T, s *Server) *checker {
	doc, err := document()
	if err != nil {
		t.Fatal(err)
	}
	base := &http.Transport{MaxIdleConnsPerHost: 100}
	return &checker{t, s, base, doc}
}

func (c *checker) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := c.base.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	var body []byte
	if !isStream(res) { // a stream of events is looked at by its own tests, past the checker
		body, err = io.ReadAll(res.Body)
	}
	_ = res.Body.Close()
	if err != nil {
		return nil, err
	}
	res.Body = io.NopCloser(bytes.NewReader(body))
	c.judge(r, res, body)
	return res, nil
}

func isStream(res *http.Response) bool { return res.Header.Get("Content-Type") == "text/event-stream" }

// asServerSees is the request as it arrives: the path is read from the request line.
func asServerSees(r *http.Request) *http.Request {
	u, err := url.ParseRequestURI(r.URL.RequestURI())
	if err != nil {
		u = r.URL
	}
	return &http.Request{Method: r.Method, URL: u, Header: r.Header, Body: http.NoBody}
}

func (c *checker) judge(r *http.Request, res *http.Response, body []byte) {
	if res.Header.Get("Cache-Control") != "no-store" || res.Header.Get("X-Content-Type-Options") != "nosniff" {
		c.t.Errorf("%s %s: no-store or nosniff is missing", r.Method, r.URL.Path)
	}
	for _, secret := range []string{plantedAPIKey} {
		if bytes.Contains(body, []byte(secret)) {
			c.t.Errorf("%s %s: the answer tells a secret: %s", r.Method, r.URL.Path, body)
		}
	}
	if res.StatusCode >= 400 && looksSecret.Match(body) {
		c.t.Errorf("%s %s: the error tells a key: %s", r.Method, r.URL.Path, body)
	}
	var params [maxParams]string
	seen := asServerSees(r)
	rt, st, _ := c.server.router.find(seen, &params)
	if rt == nil {
		c.judgeUnrouted(r, res, body, st)
		return
	}
	item := c.doc.Paths.Value(rt.pattern)
	if item == nil || item.GetOperation(rt.method) == nil {
		c.t.Errorf("%s %s is not in the document", rt.method, rt.pattern)
		return
	}
	if err := c.validate(seen, res, body, rt.pattern, item, item.GetOperation(rt.method)); err != nil {
		c.t.Errorf("%s %s answered %d %q: %v", r.Method, r.URL.Path, res.StatusCode, body, err)
	}
}

func (c *checker) validate(r *http.Request, res *http.Response, body []byte, path string, item *openapi3.PathItem, op *openapi3.Operation) error {
	in := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{
			Request: r,
			Route:   &routers.Route{Spec: c.doc, Path: path, PathItem: item, Method: r.Method, Operation: op},
		},
		Status: res.StatusCode, Header: res.Header,
		Options: &openapi3filter.Options{IncludeResponseStatus: true, ExcludeResponseBody: strings.HasSuffix(path, ".yaml") || strings.HasPrefix(res.Header.Get("Content-Type"), "text/html") || isStream(res)},
	}
	in.SetBodyBytes(body)
	return openapi3filter.ValidateResponse(context.Background(), in)
}

// judgeUnrouted checks 404 and 405 for paths that the document does not know.
func (c *checker) judgeUnrouted(r *http.Request, res *http.Response, body []byte, st style) {
	if r.Method == http.MethodHead {
		return
	}
	want := map[style]string{stylePlain: "PlainBadRequest", styleClassic: "ClassicBadRequest", styleProblem: "BadRequest"}[st]
	responses := openapi3.NewResponses(openapi3.WithStatus(res.StatusCode, c.doc.Components.Responses[want]))
	op := &openapi3.Operation{Responses: responses}
	if err := c.validate(r, res, body, "/", &openapi3.PathItem{}, op); err != nil {
		c.t.Errorf("%s %s answered %d %q: %v", r.Method, r.URL.Path, res.StatusCode, body, err)
	}
}

func TestRoutesAndDocumentAgree(t *testing.T) {
	doc, err := document()
	if err != nil {
		t.Fatal(err)
	}
	inTable := map[string]bool{}
	for _, rt := range routeTable() {
		inTable[rt.method+" "+rt.pattern] = true
		if item := doc.Paths.Value(rt.pattern); item == nil || item.GetOperation(rt.method) == nil {
			t.Errorf("%s %s is not in the document", rt.method, rt.pattern)
		}
		if rt.handle == nil || !strings.HasPrefix(rt.pattern, "/") {
			t.Errorf("%s %s is not a whole route", rt.method, rt.pattern)
		}
	}
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			if !inTable[method+" "+path] {
				t.Errorf("%s %s is in the document, but is no route", method, path)
			}
		}
	}
}

func TestDocumentedCodes(t *testing.T) {
	doc, err := document()
	if err != nil {
		t.Fatal(err)
	}
	documented := map[Code]bool{}
	for _, v := range doc.Components.Schemas["Code"].Value.Enum {
		s, _ := v.(string)
		documented[Code(s)] = true
		if _, ok := codeTable[Code(s)]; !ok {
			t.Errorf("the document has the code %s, the server has not", s)
		}
	}
	for code, info := range codeTable {
		if !documented[code] {
			t.Errorf("the code %s is not in the document", code)
		}
		if info.status < 400 || info.title == "" {
			t.Errorf("the code %s is not whole: %+v", code, info)
		}
	}
	for code, e := range outcomeErrors {
		if _, ok := codeTable[e.Code]; !ok || e.Detail == "" {
			t.Errorf("outcome %d has no code of the table", code)
		}
	}
}

// TestCheckerCanFail shows that an answer beyond the document is noticed.
func TestCheckerCanFail(t *testing.T) {
	d := openDoor(t)
	item := d.check.doc.Paths.Value("/v1/locks/{name}")
	r := asServerSees(mustRequest(t, http.MethodGet, d.url+"/v1/locks/x"))
	for body, good := range map[string]bool{
		`{"name":"x","held":false,"holder_count":0,"holders":[],"queue_length":0,"queue":[]}`:           true,
		`{"name":"x","held":false,"holder_count":0,"holders":[],"queue_length":0,"queue":[],"extra":1}`: false,
		`{"name":"x","held":"no","holder_count":0,"holders":[],"queue_length":0,"queue":[]}`:            false,
		`{"name":"x"}`: false,
	} {
		res := &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": jsonType}}
		err := d.check.validate(r, res, []byte(body), "/v1/locks/{name}", item, item.Get)
		if (err == nil) != good {
			t.Errorf("%s: %v", body, err)
		}
	}
	res := &http.Response{StatusCode: 299, Header: http.Header{"Content-Type": jsonType}}
	if d.check.validate(r, res, []byte("{}"), "/v1/locks/{name}", item, item.Get) == nil {
		t.Error("a status that the document does not have passed")
	}
}

func mustRequest(t *testing.T, method, address string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, address, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
