package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/doubledutch-lock/doubledutch/cmd/doubledutch/exitcode"
)

// runMainVariable makes this test binary behave as the program itself, so that tests see real exit codes and signals.
const runMainVariable = "RUN_DOUBLEDUTCH_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(runMainVariable) != "" {
		main()
	}
	os.Exit(m.Run())
}

// result is what a run of the program left behind.
type result struct {
	code        int
	out, stderr string
}

// program is a run of the program that is being prepared.
type program struct {
	t     *testing.T
	args  []string
	env   []string
	stdin string
}

// doubledutch prepares a run that sees none of this machine's DOUBLEDUTCH_ variables.
func doubledutch(t *testing.T, args ...string) *program {
	t.Helper()
	return &program{t: t, args: args}
}

func (p *program) with(env ...string) *program {
	p.env = append(p.env, env...)
	return p
}

func (p *program) reading(stdin string) *program {
	p.stdin = stdin
	return p
}

// command is the process, not yet started.
func (p *program) command(ctx context.Context) *exec.Cmd {
	cmd := exec.CommandContext(ctx, os.Args[0], p.args...)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, envPrefix+"_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	// Under the race detector, a process would otherwise linger for a second.
	cmd.Env = append(cmd.Env, runMainVariable+"=1", "GORACE=atexit_sleep_ms=0")
	cmd.Env = append(cmd.Env, p.env...)
	cmd.Stdin = strings.NewReader(p.stdin)
	return cmd
}

// run runs the program to its end.
func (p *program) run() result {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	defer cancel()
	cmd := p.command(ctx)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		p.t.Fatal(err)
	}
	if ctx.Err() != nil {
		p.t.Fatalf("%v did not end; it printed\n%s%s", p.args, out.String(), stderr.String())
	}
	return result{cmd.ProcessState.ExitCode(), out.String(), stderr.String()}
}

// check runs the program and holds it against an exit code and something that one of its outputs must contain.
func (p *program) check(code int, contains string) result {
	p.t.Helper()
	r := p.run()
	if r.code != code || !strings.Contains(r.out+r.stderr, contains) {
		p.t.Errorf("%q ended with %d, want %d and a text with %q; it printed\n%s%s", p.args, r.code, code, contains, r.out, r.stderr)
	}
	return r
}

// seen is a request as a fakeServer got it.
type seen struct {
	method, uri, body string
	header            http.Header
}

// fakeServer answers every request with what handle writes, and notes it.
func fakeServer(t *testing.T, handle func(w http.ResponseWriter, r *http.Request)) (url string, requests <-chan seen) {
	t.Helper()
	notes := make(chan seen, 100)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("reading the request: %v", err)
		}
		notes <- seen{r.Method, r.RequestURI, string(body), r.Header}
		w.Header().Set("Date", fakeNow.Format(http.TimeFormat))
		handle(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL, notes
}

// fakeNow is the time of day of every fakeServer.
var fakeNow = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// answering makes a handler that always answers the same.
func answering(status int, kind, body string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

const (
	jsonType    = "application/json"
	problemType = "application/problem+json"
)

func TestUsageErrors(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string
	}{
		{nil, "expected one of"},
		{[]string{"serve", "--volatil"}, `did you mean "--volatile"?`},
		{[]string{"serve", "--volatile", "--data-dir", "x"}, "--volatile and --data-dir contradict each other"},
		{[]string{"serve", "--tls-cert", "x"}, "--tls-cert needs --tls-key"},
		{[]string{"serve", "--tls-key", "x"}, "--tls-key needs --tls-cert"},
		{[]string{"serve", "--data-dir", ""}, "--data-dir is empty"},
		{[]string{"serve", "--max-locks", "0"}, "--max-locks must be greater than 0"},
		{[]string{"serve", "--max-ttl", "soon"}, `"soon" is not a duration`},
		{[]string{"serve", "--max-ttl=-3s"}, `"-3s" is not a duration`},
		{[]string{"serve", "--min-free-space", "12XB"}, `"12XB" is not a size`},
		{[]string{"serve", "--log-level", "loud"}, "--log-level must be one of"},
		{[]string{"serve", "--volatile", "--api-key", "a", "--api-key-file", "b"}, "--api-key and --api-key-file contradict each other"},
		{[]string{"serve", "--volatile", "--api-key", "a b"}, "visible ASCII"},
		{[]string{"serve", "--volatile", "--api-key-file", "/nowhere/key"}, "--api-key-file: open /nowhere/key"},
		{[]string{"acquire"}, `expected "<name>"`},
		{[]string{"acquire", "--api-key", "a", "--api-key-file", "b", "a"}, "--api-key and --api-key-file contradict each other"},
		{[]string{"acquire", "-s", "-x", "a"}, "--shared and --exclusive contradict each other"},
		{[]string{"acquire", "-s", "--slots", "3", "a"}, "--slots and --shared contradict each other"},
		{[]string{"acquire", ".."}, `".." cannot be the name of a lock`},
		{[]string{"acquire", "--wait", "NaN", "a"}, `"NaN" is not a duration`},
		{[]string{"acquire", "--server", "ftp://x", "a"}, `"ftp://x" is not an address`},
		{[]string{"release", "a"}, "no key"},
		{[]string{"release", "a", "k\r\nX: y"}, "that is not a key"},
		{[]string{"completion", "tcsh"}, "must be one of"},
		{[]string{"acquire", "--ttl", "0", "a"}, `"0" is no time at all`},
		{[]string{"elect", "--ttl", "0s", "a"}, `"0s" is no time at all`},
		{[]string{"task", "claim", "--every", "0s", "a"}, `"0s" is no time at all`},
		{[]string{"task", "claim", "--cron", "", "a"}, "--cron: it is empty"},
		{[]string{"task", "claim", "--cron", "0 3 * * *", "--zone", "", "a"}, "--zone: it is empty"},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			doubledutch(t, tt.args...).check(exitcode.Usage, tt.want)
		})
	}
}

func TestHelpTellsTheExitCodes(t *testing.T) {
	r := doubledutch(t, "--help").run()
	for _, m := range exitcode.Meanings {
		if !strings.Contains(r.out, m.Text) {
			t.Errorf("--help does not say %q", m.Text)
		}
	}
}

func TestVersion(t *testing.T) {
	doubledutch(t, "version").check(exitcode.OK, "doubledutch "+version()+" (go")
	doubledutch(t, "version", "--json").check(exitcode.OK, `"version": "`+version()+`"`)
}

func TestCompletionAnswersTheShell(t *testing.T) {
	for line, want := range map[string]string{
		"doubledutch re":                   "release\nrenew\n",
		"doubledutch serve --vol":          "--volatile\n",
		"doubledutch serve --log-format j": "json\n",
		"doubledutch ru":                   "run\n",
		"doubledutch run --if":             "--if-busy\n",
		"doubledutch run --on-lost s":      "signal\n",
	} {
		r := doubledutch(t).with("COMP_LINE=" + line).run()
		for _, word := range strings.Fields(want) {
			if !strings.Contains(r.out, word+"\n") {
				t.Errorf("%q completes to %q, want %q", line, r.out, want)
			}
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		doubledutch(t, "completion", shell).check(exitcode.OK, "complete")
	}
}
