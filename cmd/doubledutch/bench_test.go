package main

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/doubledutch-lock/doubledutch/cmd/doubledutch/exitcode"
	"github.com/doubledutch-lock/doubledutch/internal/load"
	"github.com/doubledutch-lock/doubledutch/test/rig"
)

// benchFor are the flags of a run that is short.
var benchFor = []string{"--connections", "3", "--duration", "600ms"}

func TestBenchPrintsATable(t *testing.T) {
	t.Parallel()
	r := serve(t, doubledutch(t, "--volatile", "--api-key", "open"))
	for workload, rows := range map[string][]string{
		"pairs":   {"pair ", "acquire ", "release ", "fairness"},
		"handoff": {"handoff ", "release ", "fairness"},
		"hold":    {"take: acquire ", "renew ", "release ", "take:\n", "renew:\n"},
		"wait":    {"park ", "stay: renew ", "drain: handoff ", "drain: release "},
	} {
		args := append([]string{"bench", workload, "--api-key", "open", "--server-pid", strconv.Itoa(r.cmd.Process.Pid)}, benchFor...)
		switch workload {
		case "hold":
			args = append(args, "--locks", "30", "--rate", "100")
		case "pairs", "handoff":
			args = append(args, "--warm-up", "100ms")
		}
		out := r.client(args...).check(exitcode.OK, workload+", 3 connections to "+r.url+" (DoubleDutch "+version()+", one node, volatile, interface v1)").out
		for _, want := range append(rows, "PER SECOND", "P99.9", "none", "client CPU", "server CPU", "server memory") {
			if !strings.Contains(out, want) {
				t.Errorf("%s does not print %q:\n%s", workload, want, out)
			}
		}
	}
	r.client("ls", "--api-key", "open", "--json").check(exitcode.OK, `"locks": []`)
}

// The members of the JSON are those of load.Report, and docs/benchmarks.md has all of them.
func TestBenchJSON(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/benchmarks.md")
	if err != nil {
		t.Fatal(err)
	}
	r := serve(t, doubledutch(t, "--volatile"))
	args := []string{"bench", "handoff", "--json", "--interface", "seed", "--warm-up", "0", "--server-pid", strconv.Itoa(r.cmd.Process.Pid)}
	out := r.client(append(args, benchFor...)...).check(exitcode.OK, `"phases": [`).out
	var report load.Report
	d := json.NewDecoder(strings.NewReader(out))
	d.DisallowUnknownFields()
	if err := d.Decode(&report); err != nil || report.Workload != load.Handoff || report.Phases[0].Operations == 0 || report.Phases[0].ServerCPU == nil {
		t.Fatalf("%v in %s", err, out)
	}
	members := regexp.MustCompile(`"(\w+)":`).FindAllStringSubmatch(out, -1)
	if len(members) < 30 {
		t.Fatalf("only %d members were found", len(members))
	}
	for _, m := range members {
		if !bytes.Contains(page, []byte("`"+m[1]+"`")) {
			t.Errorf("docs/benchmarks.md does not tell what %q is", m[1])
		}
	}
}

func TestBenchFlagsAreOnThePage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/benchmarks.md")
	if err != nil {
		t.Fatal(err)
	}
	flags := 0
	for _, workload := range []string{"pairs", "handoff", "hold", "wait"} {
		out := doubledutch(t, "bench", workload, "--help").check(exitcode.OK, "--connections").out
		for _, m := range regexp.MustCompile(`(?m)^ +(?:-\w, )?(?:    )?(--[a-z-]+)`).FindAllStringSubmatch(out, -1) {
			if flags++; m[1] != "--help" && m[1] != "--config" && !bytes.Contains(page, []byte("`"+m[1])) {
				t.Errorf("docs/benchmarks.md does not explain %s", m[1])
			}
		}
	}
	if flags < 40 {
		t.Fatalf("only %d flags were found", flags)
	}
}

func TestBenchRefuses(t *testing.T) {
	t.Parallel()
	a, b := serve(t, doubledutch(t, "--volatile")), serve(t, doubledutch(t, "--volatile", "--api-key", "open"))
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"pairs", "--server", "127.0.0.1:1"}, exitcode.Unavailable, "cannot reach http://127.0.0.1:1: is the server running?"},
		{[]string{"pairs", "--server", a.url + ",127.0.0.1:1"}, exitcode.Unavailable, "cannot reach http://127.0.0.1:1"},
		{[]string{"pairs", "--server", b.url}, exitcode.Failure, "API key"},
		{[]string{"pairs", "--api-key", "open", "--server", a.url + ", " + b.url}, exitcode.Usage, "no node of the cluster"},
		{[]string{"pairs", "--server", ","}, exitcode.Usage, "there is no server"},
		{[]string{"pairs", "--server", "ftp://x"}, exitcode.Usage, "is not an address"},
		{[]string{"pairs", "--names", "2"}, exitcode.Usage, "needs a name of its own"},
		{[]string{"hold", "--rate", "0.1"}, exitcode.Usage, "too seldom"},
		{[]string{"wait", "--ttl", "1ms"}, exitcode.Usage, "at least 1s"},
		{[]string{"handoff", "--interface", "seed", "--owner-size", "3"}, exitcode.Usage, "neither owner nor metadata"},
		{[]string{"pairs", "--ca-cert", "/nowhere/ca"}, exitcode.Usage, "--ca-cert: open /nowhere/ca"},
		{[]string{"pairs", "--server", a.url, "--server-pid", "999999999"}, exitcode.Usage, "cannot see the process 999999999"},
		{[]string{"wait", "--rate", "3"}, exitcode.Usage, "--rate"},
	} {
		doubledutch(t, append([]string{"bench"}, tt.args...)...).check(tt.code, tt.want)
	}
}

// A server that takes no locks gives no figures.
func TestBenchOfNothing(t *testing.T) {
	t.Parallel()
	r := serve(t, doubledutch(t, "--volatile", "--max-locks", "1"))
	r.client("acquire", "the-only-one").check(exitcode.OK, "token 1")
	r.client(append([]string{"bench", "pairs", "--warm-up", "0"}, benchFor...)...).check(exitcode.Failure, "too_many_locks")
}

func TestBenchInterrupted(t *testing.T) {
	t.Parallel()
	r := serve(t, doubledutch(t, "--volatile"))
	cmd := r.client("bench", "hold", "--locks", "10", "--connections", "2", "--duration", "1h").command(t.Context())
	var out, stderr rig.Output
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if strings.Count(r.client("ls").run().out, "bench-") == 10 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("it does not hold ten locks; it printed %s%s", out.String(), stderr.String())
		}
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != exitcode.Interrupted || !strings.Contains(out.String(), "release") || !strings.Contains(stderr.String(), "figures so far") {
		t.Errorf("exit code %d, printed\n%s%s", code, out.String(), stderr.String())
	}
	r.client("ls", "--json").check(exitcode.OK, `"locks": []`)
}

func TestBenchNumbers(t *testing.T) {
	for seconds, want := range map[float64]string{0: "0ns", 850e-9: "850ns", 83.14e-6: "83.1µs", 1.236e-3: "1.24ms", 12.34: "12.3s", 123.4: "123s", 1234: "1234s"} {
		if got := short(seconds); got != want {
			t.Errorf("%g is %s, want %s", seconds, got, want)
		}
	}
	for n, want := range map[float64]string{0: "0", 999: "999", 1000: "1,000", 1234567.8: "1,234,568", -1234: "-1,234", -123: "-123"} {
		if got := grouped(n); got != want {
			t.Errorf("%g is %s, want %s", n, got, want)
		}
	}
}

// The line of progress of a terminal.
func TestBenchProgress(t *testing.T) {
	var out bytes.Buffer
	p := &progress{wanted: true, out: &out}
	p.show(load.Moment{Phase: "pairs", WarmingUp: true, Elapsed: time.Second, Planned: 2 * time.Second})
	p.show(load.Moment{Phase: "take", Elapsed: 3 * time.Second, Recent: 12345, Errors: 7, Latency: load.Latency{P50: 1e-3, P99: 2e-3}})
	p.say("stopping")
	p.clear()
	if got, want := strings.ReplaceAll(out.String(), "\r\x1b[K", "|"), "|pairs 1s of 2s, warming up|take 3s  12,345/s  p50 1.00ms  p99 2.00ms  errors 7|stopping\n|"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	silent := &progress{out: &out}
	if out.Reset(); out.Len() != 0 {
		t.Error("not reset")
	}
	silent.show(load.Moment{})
	silent.say("x")
	if out.Len() != 0 {
		t.Errorf("without a terminal it printed %q", out.String())
	}
}
