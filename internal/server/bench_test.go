package server

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/doubledutch-lock/doubledutch/internal/node"
)

// discard is a ResponseWriter that costs nothing, so that the handlers' own costs remain.
type discard struct{ h http.Header }

func (d *discard) Header() http.Header         { return d.h }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(int)             {}
func (d *discard) FlushError() error           { return nil }

// benchmark measures a request from the handler's door to the Backend's and back.
func benchmark(b *testing.B, method, target, body string, headers http.Header) {
	s, _ := echoServer(b)
	u, err := url.ParseRequestURI(target)
	if err != nil {
		b.Fatal(err)
	}
	reader := bytes.NewReader([]byte(body))
	r := (&http.Request{
		Method: method, URL: u, Host: "localhost", Header: headers, Body: io.NopCloser(reader), ContentLength: int64(len(body)), ProtoMajor: 1, ProtoMinor: 1,
	}).WithContext(context.Background())
	w := &discard{make(http.Header, 8)}
	b.ReportAllocs()
	for b.Loop() {
		reader.Reset([]byte(body))
		clear(w.h)
		s.ServeHTTP(w, r)
	}
}

func BenchmarkSeedAcquire(b *testing.B) { benchmark(b, "GET", "/getLock/my-lock/30", "", nil) }

func BenchmarkSeedRelease(b *testing.B) {
	benchmark(b, "GET", "/releaseLock/my-lock/"+plantedKey, "", nil)
}

func BenchmarkV1Acquire(b *testing.B) {
	benchmark(b, "POST", "/v1/locks/my-lock", `{"ttl":30,"key":"`+plantedKey+`","owner":"worker-7"}`, http.Header{"Content-Type": jsonType})
}

func BenchmarkV1Release(b *testing.B) {
	benchmark(b, "DELETE", "/v1/locks/my-lock", "", http.Header{"Lock-Key": {plantedKey}})
}

// BenchmarkPairsOverHTTP takes and releases free locks over 64 connections of a volatile server; client and server share
// the machine.
func BenchmarkPairsOverHTTP(b *testing.B) {
	n, err := node.Open(b.Context(), node.Config{})
	if err != nil {
		b.Fatal(err)
	}
	s, err := New(Config{Backend: n, Listen: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	if err := s.Listen(); err != nil {
		b.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve() }()
	var number atomic.Int64
	b.SetParallelism(64 / runtime.GOMAXPROCS(0))
	b.RunParallel(func(pb *testing.PB) {
		c, err := net.Dial("tcp", s.Addr().String())
		if err != nil {
			b.Error(err)
			return
		}
		defer c.Close()
		r := bufio.NewReader(c)
		name := fmt.Sprintf("lock-%d", number.Add(1))
		for pb.Next() {
			key := rawGet(b, c, r, "/getLock/"+name)
			if got := rawGet(b, c, r, "/releaseLock/"+name+"/"+key); got != seedReleased {
				b.Errorf("release: %q", got)
			}
		}
	})
	if err := errors.Join(s.Shutdown(context.Background()), <-served, n.Close()); err != nil {
		b.Error(err)
	}
}

// rawGet is the cheapest client there is: it reads the length and the body.
func rawGet(b *testing.B, c net.Conn, r *bufio.Reader, path string) string {
	if _, err := io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		b.Error(err)
		return ""
	}
	length := 0
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			b.Error(err)
			return ""
		}
		if v, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			length, _ = strconv.Atoi(string(bytes.TrimSpace(v)))
		}
		if len(line) == 2 {
			break
		}
	}
	body := make([]byte, length)
	_, _ = io.ReadFull(r, body)
	return string(body)
}
