package main

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/doubledutch-lock/doubledutch/cmd/doubledutch/exitcode"
	"github.com/doubledutch-lock/doubledutch/test/rig"
)

func TestTaskVerbs(t *testing.T) {
	s := serve(t, doubledutch(t, "--volatile"))
	s.client("task", "show", "job").check(exitcode.Failure, "There is no record of this task")
	r := s.client("task", "claim", "job", "--max-attempts", "2", "--owner", "one", "--ttl", "1m").check(exitcode.OK, `claimed "job": token `)
	key := strings.TrimSpace(r.out)
	if len(key) != 32 {
		t.Errorf("standard output is %q, want the key alone", r.out)
	}
	if r = s.client("task", "claim", "job", "--owner", "two").check(exitcode.Held, "the task is running, attempt 1 by one"); r.out != "" {
		t.Errorf("a refused claim printed %q", r.out)
	}
	s.client("task", "renew", "job", "-", "--progress", "half").reading(key).check(exitcode.OK, `renewed "job": expires in `)
	s.client("task", "show", "job").check(exitcode.OK, "half")
	s.client("task", "complete", "job", testKey("x")).check(exitcode.NotHeld, "This key does not have the claim")
	s.client("task", "fail", "job", key, "--error", "disk").check(exitcode.OK, `failed "job": it is open now`)
	key = strings.TrimSpace(s.client("task", "claim", "job", "--max-attempts", "2").check(exitcode.OK, "attempt 2").out)
	s.client("task", "complete", "job", key, "--result", "all of it").check(exitcode.OK, `completed "job"`)
	s.client("task", "claim", "job").check(exitcode.TaskDone, "the task is done by ")
	s.client("task", "claim", "job", "--json").check(exitcode.TaskDone, `"result": "all of it"`)
	if r = s.client("task", "show", "--result", "job").check(exitcode.OK, ""); r.out != "all of it\n" {
		t.Errorf("the result is %q", r.out)
	}
	s.client("task", "ls").check(exitcode.OK, "job   done")
	s.client("task", "ls", "no/", "--json").check(exitcode.OK, `"tasks": []`)
	s.client("task", "forget", "job").check(exitcode.OK, `forgot "job"`)
	s.client("task", "claim", "once", "--max-attempts", "1", "--key", testKey("once")).check(exitcode.OK, "claimed")
	s.client("task", "fail", "once", testKey("once")).check(exitcode.OK, "it is failed now")
	s.client("task", "claim", "once").check(exitcode.TaskFailed, "the task has failed")
	_, a := s.rest("GET", "/v1/tasks/once", "")
	token, _ := a["token"].(float64)
	s.client("task", "settle", "once", "retry", "--token", strconv.Itoa(int(token))).check(exitcode.OK, `settled "once": it is open now`)
	s.client("task", "claim", "slot", "--every", "1h", "--at-least", "1m").check(exitcode.OK, "claimed")
	s.client("task", "claim", "slot", "--cron", "x").check(exitcode.Failure, "cron")
	s.client("task", "claim", "..").check(exitcode.Usage, `".." cannot be the name`)
}

func TestVerify(t *testing.T) {
	s := serve(t, doubledutch(t, "--volatile"))
	token := s.acquire("db", testKey("db"), "")
	s.client("verify", "db", strconv.FormatUint(token, 10)).check(exitcode.OK, "holds")
	s.client("verify", "db", strconv.FormatUint(token, 10), "--json").check(exitcode.OK, `"valid": true`)
	s.client("verify", "db", "9007199254740991").check(exitcode.NotHeld, "does not hold")
}

func TestAcquireOfASet(t *testing.T) {
	url, requests := fakeServer(t, answering(200, jsonType, `{"key":"`+aKey+`","token":7,"ttl":30,"expires_in":29,"names":[],"waited":0}`))
	doubledutch(t, "acquire", "a,b", "-s", "--key", aKey, "--owner", "o", "--server", url).check(exitcode.OK, `acquired "a,b": token 7`)
	if req := <-requests; req.uri != "/v1/locks" || req.body != `{"names":[{"name":"a","mode":"shared"},{"name":"b","mode":"shared"}],"key":"`+aKey+`","owner":"o"}` {
		t.Errorf("sent %s to %s", req.body, req.uri)
	}
	doubledutch(t, "acquire", "a,b", "--one-name", "--server", url).check(exitcode.OK, "acquired")
	if req := <-requests; req.uri != "/v1/locks/a%2Cb" && req.uri != "/v1/locks/a,b" {
		t.Errorf("sent to %s", req.uri)
	}
	url, _ = fakeServer(t, answering(404, problemType, `{"code":"not_held","detail":"This key does not hold this lock."}`))
	doubledutch(t, "release", "a,b", aKey, "--server", url).check(exitcode.NotHeld, `goes with one of their names, such as "a"`)
	doubledutch(t, "renew", "a,b", aKey, "--server", url).check(exitcode.NotHeld, `goes with one of their names, such as "a"`)
	url, _ = fakeServer(t, answering(409, problemType, `{"code":"held","name":"b","holder":{"owner":"x","expires_in":9}}`))
	doubledutch(t, "acquire", "a,b", "--server", url).check(exitcode.Held, `"b" is held by x`)
	doubledutch(t, "acquire", "a,,b", "--server", url).check(exitcode.Usage, "empty")
	doubledutch(t, "acquire", "a,a", "--server", url).check(exitcode.Usage, "twice")
	url, _ = fakeServer(t, answering(409, problemType, `{"code":"deadlock","cycle":[{"owner":"a","waits_for":"x","held_by":"b"},{"owner":"b","waits_for":"y","held_by":"","queued":true}]}`))
	doubledutch(t, "acquire", "x", "--server", url).check(exitcode.Held, "this would wait for itself; a waits for x, held by b; b waits for y, behind -")
}

func TestElection(t *testing.T) {
	s := serve(t, doubledutch(t, "--volatile"))
	s.client("leader", "office").check(exitcode.NotHeld, `nobody leads "office"`)
	var out rig.Output
	watching := s.client("leader", "office", "--watch").command(t.Context())
	watching.Stdout = &out
	if err := watching.Start(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return strings.HasPrefix(out.String(), "-\n") })
	campaign := s.client("elect", "office", "--owner", "one", "--value", "here", "--ttl", "5s").command(t.Context())
	var token, complaints bytes.Buffer
	campaign.Stdout, campaign.Stderr = &token, &complaints
	if err := campaign.Start(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return strings.Contains(out.String(), "\tone\there\n") })
	s.client("leader", "office").check(exitcode.OK, "\tone\there\n")
	if err := campaign.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = campaign.Wait()
	// A signal that comes between the grant and the first renewal ends it before it was done.
	if code := campaign.ProcessState.ExitCode(); code != exitcode.OK && code != exitcode.Interrupted {
		t.Errorf("it ended with %d: %s", code, complaints.String())
	}
	waitFor(t, func() bool { return strings.HasSuffix(out.String(), "here\n-\n") })
	if err := watching.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = watching.Wait()
	if code := watching.ProcessState.ExitCode(); code != exitcode.Interrupted {
		t.Errorf("watching ended with %d", code)
	}
}

// TestElectionOutlastsARestart: a server that is away just when the office is won does not end the campaign.
func TestElectionOutlastsARestart(t *testing.T) {
	var renewals atomic.Int32
	url, _ := fakeServer(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", jsonType)
		if strings.HasSuffix(r.URL.Path, "/renew") {
			switch renewals.Add(1) {
			case 1:
				w.WriteHeader(503)
				return
			case 2:
				_, _ = io.WriteString(w, `{"expires_in":30}`)
				return
			}
			w.Header().Set("Content-Type", problemType)
			w.WriteHeader(404)
			_, _ = io.WriteString(w, `{"code":"not_held","detail":"It is over."}`)
			return
		}
		_, _ = io.WriteString(w, `{"name":"office","key":"`+aKey+`","token":7,"expires_in":30}`)
	})
	r := doubledutch(t, "elect", "office", "--ttl", "0.3s", "--server", url).check(exitcode.NotHeld, "It is over.")
	if r.out != "7\n" || renewals.Load() != 3 {
		t.Errorf("it printed %q after %d renewals", r.out, renewals.Load())
	}
}

// TestElectionIsLost: an office that was taken away ends the campaign.
func TestElectionIsLost(t *testing.T) {
	s := serve(t, doubledutch(t, "--volatile"))
	campaign := s.client("elect", "office", "--ttl", "0.3s").command(t.Context())
	var out rig.Output
	campaign.Stdout = &out
	if err := campaign.Start(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return strings.HasSuffix(out.String(), "\n") })
	s.stop(os.Interrupt)
	_ = campaign.Wait()
	if code := campaign.ProcessState.ExitCode(); code != exitcode.NotHeld {
		t.Errorf("it ended with %d", code)
	}
}

func TestWatch(t *testing.T) {
	s := serve(t, doubledutch(t, "--volatile"))
	var locks, tasks rig.Output
	for _, w := range []struct {
		out  *rig.Output
		args []string
	}{{&locks, []string{"watch", "d", "--prefix"}}, {&tasks, []string{"watch", "--tasks", "--json"}}} {
		cmd := s.client(w.args...).command(t.Context())
		cmd.Stdout = w.out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	}
	n := 0
	waitFor(t, func() bool { // from when on they see what happens is not told
		n++
		s.rest("POST", "/v1/locks/db"+strconv.Itoa(n), `{"owner":"me"}`)
		s.rest("POST", "/v1/tasks/t"+strconv.Itoa(n), `{"owner":"me"}`)
		return strings.Contains(locks.String(), `granted  db`) && strings.Contains(tasks.String(), `"event":"task_claimed","data":{"name":"t`)
	})
	if strings.Contains(locks.String(), "task_") || !strings.Contains(locks.String(), `owner="me"`) {
		t.Errorf("of locks it printed %s", locks.String())
	}
	s.client("watch", "--prefix").check(exitcode.Usage, "--prefix needs a name")
}
