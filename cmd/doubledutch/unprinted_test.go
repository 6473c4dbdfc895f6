package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/doubledutch-lock/doubledutch/cmd/doubledutch/exitcode"
)

// brokenOutputs are ways in which standard output does not take what is written to it.
func brokenOutputs(t *testing.T) map[string]*os.File {
	t.Helper()
	read, pipe, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := read.Close(); err != nil {
		t.Fatal(err)
	}
	all := map[string]*os.File{"a pipe without a reader": pipe}
	if full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0); err == nil {
		all["a full disk"] = full
	}
	return all
}

// A lock whose key cannot be printed is released, unless the caller knows the key.
func TestKeyThatCannotBePrinted(t *testing.T) {
	url, requests := fakeServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodDelete {
			answering(200, jsonType, `{"released":true}`)(w, r)
			return
		}
		answering(200, jsonType, grant)(w, r)
	})
	for what, out := range brokenOutputs(t) {
		for _, args := range [][]string{{}, {"--json"}, {"--key", aKey}} {
			cmd := doubledutch(t, append([]string{"acquire", "db", "--server", url}, args...)...).command(t.Context())
			var stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = out, &stderr
			_ = cmd.Run()
			if code := cmd.ProcessState.ExitCode(); code != exitcode.Failure {
				t.Errorf("%s, %v: it ended with %d and said %s", what, args, code, stderr.String())
			}
			var body struct{ Key string }
			if err := json.Unmarshal([]byte((<-requests).body), &body); err != nil {
				t.Fatal(err)
			}
			if len(args) == 2 {
				continue // its key is known
			}
			select {
			case req := <-requests:
				if req.method != http.MethodDelete || req.header.Get("Lock-Key") != body.Key {
					t.Errorf("%s, %v: it sent %s with another key", what, args, req.method)
				}
			default:
				t.Errorf("%s, %v: the lock was not released", what, args)
			}
			if !strings.Contains(stderr.String(), "released again") {
				t.Errorf("%s, %v: it said %s", what, args, stderr.String())
			}
		}
	}
	select {
	case req := <-requests:
		t.Errorf("a %s too many", req.method)
	default:
	}
}

// A script that has the key has the lock, whether or not anybody reads what is said about it.
func TestUnreadRemarkIsNoFailure(t *testing.T) {
	url, requests := fakeServer(t, answering(200, jsonType, grant))
	for what, broken := range brokenOutputs(t) {
		cmd := doubledutch(t, "acquire", "db", "--server", url).command(t.Context())
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, broken
		if err := cmd.Run(); err != nil || out.String() != aKey+"\n" {
			t.Errorf("%s: %v, printed %q", what, err, out.String())
		}
		<-requests
	}
	if len(requests) != 0 {
		t.Error("it did more than acquire")
	}
}
