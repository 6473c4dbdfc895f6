package fencing

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
)

// put replaces the content of an object, unless somebody with a newer token has written it. Its first line is the token.
func put(ctx context.Context, c *http.Client, object string, token uint64, change func(old []byte) []byte) error {
	for {
		etag, seen, old, err := get(ctx, c, object)
		if err != nil {
			return err
		}
		if seen > token {
			return fmt.Errorf("%w: %d, the object has %d", errStale, token, seen)
		}
		condition, value := "If-Match", etag
		if etag == "" { // there is none yet
			condition, value = "If-None-Match", "*"
		}
		body := fmt.Appendf(nil, "%d\n%s", token, change(old))
		status, err := send(ctx, c, object, body, condition, value)
		if err != nil {
			return err
		}
		switch status {
		case http.StatusOK:
			return nil
		case http.StatusPreconditionFailed, http.StatusConflict, http.StatusNotFound:
			// Somebody wrote or removed it in between: look again who that was.
		default:
			return fmt.Errorf("put: status %d", status)
		}
	}
}

// get reads an object. Without one, etag is empty.
func get(ctx context.Context, c *http.Client, object string) (etag string, token uint64, content []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, object, nil)
	if err != nil {
		return "", 0, nil, err
	}
	res, err := c.Do(req)
	if err != nil {
		return "", 0, nil, err
	}
	defer func() { _ = res.Body.Close() }()
	switch res.StatusCode {
	case http.StatusNotFound:
		return "", 0, nil, nil
	case http.StatusOK:
	default:
		return "", 0, nil, fmt.Errorf("get: status %d", res.StatusCode)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return "", 0, nil, err
	}
	line, content, _ := bytes.Cut(body, []byte("\n"))
	token, err = strconv.ParseUint(string(line), 10, 64)
	return res.Header.Get("Etag"), token, content, err
}

// send writes an object on a condition.
func send(ctx context.Context, c *http.Client, object string, body []byte, condition, value string) (status int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, object, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set(condition, value)
	res, err := c.Do(req)
	if err != nil {
		return 0, err
	}
	return res.StatusCode, res.Body.Close()
}

// bucket is an object store with the conditions of S3.
type bucket struct {
	mu      sync.Mutex // guards all below
	objects map[string][]byte
	before  func() // called once, before the next write is carried out
}

// etag is that of the content, as in S3: equal contents have equal ones, whatever their metadata.
func etag(body []byte) string {
	sum := md5.Sum(body)
	return `"` + hex.EncodeToString(sum[:]) + `"`
}

func (b *bucket) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	if r.Method == http.MethodPut {
		b.mu.Lock()
		before := b.before
		b.before = nil
		b.mu.Unlock()
		if before != nil {
			before()
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	o, there := b.objects[r.URL.Path]
	switch r.Method {
	case http.MethodGet:
		if !there {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.Header().Set("Etag", etag(o))
		_, _ = w.Write(o)
	case http.MethodPut:
		match := r.Header.Get("If-Match")
		switch {
		case match != "" && !there:
			w.WriteHeader(http.StatusNotFound)
		case match != "" && match != etag(o), r.Header.Get("If-None-Match") == "*" && there:
			w.WriteHeader(http.StatusPreconditionFailed)
		default:
			b.objects[r.URL.Path] = body
		}
	case http.MethodDelete:
		delete(b.objects, r.URL.Path)
	}
}

func openBucket(t *testing.T) (b *bucket, url string) {
	t.Helper()
	b = &bucket{objects: map[string][]byte{}}
	s := httptest.NewServer(b)
	t.Cleanup(s.Close)
	return b, s.URL + "/bucket/report"
}

func writing(text string) func([]byte) []byte { return func([]byte) []byte { return []byte(text) } }

func TestRecipeObject(t *testing.T) {
	t.Parallel()
	b, url := openBucket(t)
	ctx := t.Context()
	write := func(token uint64, text string) error { return put(ctx, http.DefaultClient, url, token, writing(text)) }
	want := func(text string) {
		t.Helper()
		if _, _, content, err := get(ctx, http.DefaultClient, url); err != nil || string(content) != text {
			t.Errorf("the object is %q (%v), want %q", content, err, text)
		}
	}
	// meanwhile has the write of one token come between the reading and the writing of the next one.
	meanwhile := func(token uint64, text string) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.before = func() { ok(t, write(token, text)) }
	}
	ok(t, write(33, "a"))
	ok(t, write(34, "b"))
	if err := write(33, "late"); !errors.Is(err, errStale) {
		t.Errorf("the late writer: %v", err)
	}
	want("b")
	meanwhile(36, "d")
	if err := write(35, "late"); !errors.Is(err, errStale) {
		t.Errorf("the late writer, at the same time: %v", err)
	}
	want("d")
	meanwhile(36, "e")
	ok(t, write(37, "f"))
	want("f")
	meanwhile(39, "f") // nothing new, but for the token
	if err := write(38, "late"); !errors.Is(err, errStale) {
		t.Errorf("the late writer, of what looks the same: %v", err)
	}
	want("f")

	url += "2" // that nobody has written yet
	meanwhile(2, "x")
	if err := write(1, "late"); !errors.Is(err, errStale) {
		t.Errorf("the late writer of the first object: %v", err)
	}
	want("x")
	b.mu.Lock()
	b.before = func() {
		req, _ := http.NewRequestWithContext(ctx, http.MethodDelete, url, nil)
		res, err := http.DefaultClient.Do(req)
		ok(t, err)
		ok(t, res.Body.Close())
	}
	b.mu.Unlock()
	ok(t, write(3, "y"))
	want("y")
}
