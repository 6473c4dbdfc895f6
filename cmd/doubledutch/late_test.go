package main

import (
	"context"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/doubledutch-lock/doubledutch/cmd/doubledutch/exitcode"
	"github.com/doubledutch-lock/doubledutch/test/rig"
)

// A node that waits for the others is alive and not ready, answers nobody falsely, and a signal ends it.
func TestNodeThatLooksForTheOthersIsAlive(t *testing.T) {
	at := freeAddresses(t, 3)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var log rig.Output
	// The third is a name that nobody resolves, as that of a pod that was not started yet. (It is no valid name, so that no
	// name server is asked.)
	cmd := doubledutch(t, "serve", "--volatile", "--listen", at[2], "--cluster-listen", at[0],
		"--name", "n1", "--cluster", "n1="+at[0]+",n2="+at[1]+",n3=not..there:7334").command(ctx)
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill() }()
	url := "http://" + at[2]
	waitFor(t, func() bool { return ask(ctx, "GET", url+"/healthz").status == 200 })
	for _, r := range []struct{ method, path, says string }{
		{"GET", "/readyz", "still looking for the others"},
		{"GET", "/getLock/a", ""},
		{"GET", "/getlock?lockname=a", ""},
		{"POST", "/v1/locks/a", `"unavailable"`},
		{"GET", "/v1/locks", `"unavailable"`},
		{"GET", "/v1/locks?consistency=stale", `"unavailable"`},
		{"GET", "/v1/locks/a?consistency=stale", `"unavailable"`},
		{"GET", "/v1/cluster", `"unavailable"`},
		{"POST", "/v1/cluster/transfer", `"unavailable"`},
		{"DELETE", "/v1/cluster/members/n2", `"unavailable"`},
	} {
		if a := ask(ctx, r.method, url+r.path); a.status != 503 || a.retryAfter == "" || !strings.Contains(a.body, r.says) {
			t.Errorf("%s %s: %+v", r.method, r.path, a)
		}
	}
	if a := ask(ctx, "GET", url+"/metrics"); !strings.Contains(a.body, "\ndoubledutch_ready 0\n") {
		t.Errorf("the metrics say %d %s", a.status, a.body)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != exitcode.OK {
		t.Errorf("exit code %d after SIGTERM; it logged\n%s", code, log.String())
	}
}

// said is an answer, or none.
type said struct {
	status           int
	retryAfter, body string
}

func ask(ctx context.Context, method, url string) said {
	r, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return said{}
	}
	if method == http.MethodPost {
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader("{}")), 2
		r.Header.Set("Content-Type", "application/json")
	}
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		return said{}
	}
	defer func() { _ = a.Body.Close() }()
	body, _ := io.ReadAll(a.Body)
	return said{a.StatusCode, a.Header.Get("Retry-After"), string(body)}
}
