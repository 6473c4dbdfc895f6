package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
	"github.com/doubledutch-lock/doubledutch/internal/node"
)

// cluster is a Backend of three members that notes what it is asked to change, and reads nothing but what is stale.
type cluster struct {
	Backend
	err   error
	asked []string
}

func (*cluster) Members(context.Context) []node.MemberStatus {
	return []node.MemberStatus{
		{Name: "n1", Address: "host1:7334", Voter: true, Self: true, Reachable: true, AppliedIndex: 7, LastContact: 4500 * time.Microsecond, Version: "1.2.3", Knows: 2},
		{Name: "n2", Address: "host2:7334", Voter: true, Leader: true, Reachable: true, AppliedIndex: 9, DiskFull: true, Version: "1.2.4", Knows: 3},
		{Name: "n3", Address: "host3:7334"},
	}
}

func (c *cluster) ask(what string) error {
	c.asked = append(c.asked, what)
	return c.err
}

func (c *cluster) Add(name, addr string) error { return c.ask("add " + name + " at " + addr) }
func (c *cluster) Remove(name string) error    { return c.ask("remove " + name) }
func (c *cluster) Promote(name string) error   { return c.ask("promote " + name) }
func (c *cluster) Transfer(name string) error  { return c.ask("transfer " + name) }

func (*cluster) Read(context.Context, func(*locktable.Table, locktable.Time)) error {
	return node.ErrUnavailable
}

func (c *cluster) ReadStale(f func(*locktable.Table, uint64, time.Duration)) {
	c.Backend.ReadStale(func(t *locktable.Table, index uint64, _ time.Duration) { f(t, index, 1500*time.Millisecond+1) })
}

func TestShowCluster(t *testing.T) {
	d := openDoor(t)
	d.backend.Backend = &cluster{Backend: d.backend.Backend}
	a := d.want(200, "*", "GET", "/v1/cluster", "")
	for _, want := range []string{
		`"name":"n1","leader":"n2","volatile":true,`,
		`,"level":2,"members":`,
		`{"name":"n1","address":"host1:7334","voter":true,"leader":false,"reachable":true,"applied_index":7,"last_contact":0.004,"disk_full":false,"version":"1.2.3","knows_level":2}`,
		`{"name":"n2","address":"host2:7334","voter":true,"leader":true,"reachable":true,"applied_index":9,"last_contact":0,"disk_full":true,"version":"1.2.4","knows_level":3}`,
		`{"name":"n3","address":"host3:7334","voter":false,"leader":false,"reachable":false}`,
	} {
		if !strings.Contains(a.body, want) {
			t.Errorf("%s is not in %s", want, a.body)
		}
	}
	d.want(200, "", "HEAD", "/v1/cluster", "")
}

// TestStateHash: it is there on request only, names the state and changes with it.
func TestStateHash(t *testing.T) {
	d := openDoor(t)
	hash := func() (string, uint64) {
		t.Helper()
		var got struct {
			State struct {
				Index  uint64 `json:"applied_index"`
				SHA256 string
			} `json:"state_hash"`
		}
		if err := json.Unmarshal([]byte(d.want(200, "*", "GET", "/v1/cluster?state_hash=true", "").body), &got); err != nil {
			t.Fatal(err)
		}
		return got.State.SHA256, got.State.Index
	}
	before, at := hash()
	want := ""
	d.backend.ReadStale(func(t *locktable.Table, _ uint64, _ time.Duration) { want = fmt.Sprintf("%x", t.Hash()) })
	if before != want {
		t.Errorf("the hash is %s, want %s", before, want)
	}
	d.take("a")
	if after, index := hash(); after == before || index <= at {
		t.Errorf("the hash at %d is that at %d", index, at)
	}
	for _, path := range []string{"/v1/cluster", "/v1/cluster?state_hash=false"} {
		if a := d.want(200, "*", "GET", path, ""); strings.Contains(a.body, "sha256") {
			t.Errorf("%s answers with a hash", path)
		}
	}
	d.problem(400, CodeInvalidField, "GET", "/v1/cluster?state_hash=yes", "")
	d.problem(400, CodeInvalidField, "GET", "/v1/cluster?state_hash=true&state_hash=true", "")
}

// TestSingleServerIsAClusterOfOne asks a real node.
func TestSingleServerIsAClusterOfOne(t *testing.T) {
	d := openDoor(t)
	var got struct {
		ID, Name, Leader string
		Members          []struct{ Name string }
	}
	a := d.want(200, "*", "GET", "/v1/cluster", "")
	if err := json.Unmarshal([]byte(a.body), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Members) != 1 || got.Name == "" || got.Leader != got.Name || got.Members[0].Name != got.Name {
		t.Errorf("%s", a.body)
	}
	d.problem(409, CodeRefused, "DELETE", "/v1/cluster/members/"+got.Name, "")
	d.problem(409, CodeRefused, "DELETE", "/v1/cluster/members/stranger", "")
	d.problem(409, CodeRefused, "POST", "/v1/cluster/transfer", "")
	d.take("a") // it still leads
}

func TestChangeCluster(t *testing.T) {
	d := openDoor(t)
	c := &cluster{Backend: d.backend.Backend}
	d.backend.Backend = c
	d.want(200, `{"removed":true}`, "DELETE", "/v1/cluster/members/n3", "")
	d.want(200, `{"promoted":true}`, "POST", "/v1/cluster/members", `{"promote":"n3"}`)
	d.want(200, `{"added":true}`, "POST", "/v1/cluster/members", `{"add":"n4","address":"host4:7334"}`)
	d.want(200, `{"transferred":true}`, "POST", "/v1/cluster/transfer", "")
	d.want(200, `{"transferred":true}`, "POST", "/v1/cluster/transfer", `{"to":"n2"}`)
	if got := strings.Join(c.asked, ", "); got != "remove n3, promote n3, add n4 at host4:7334, transfer , transfer n2" {
		t.Errorf("asked for %s", got)
	}
	c.asked = nil
	d.problem(400, CodeInvalidField, "POST", "/v1/cluster/members", "")
	d.problem(400, CodeInvalidField, "POST", "/v1/cluster/members", `{"promote":"a/b"}`)
	for _, body := range []string{
		`{"add":"n4"}`, `{"address":"host4:7334"}`, `{"add":"n4","address":"host4:7334","promote":"n4"}`, `{"add":"a/b","address":"host4:7334"}`,
		`{"promote":"n4","address":"host4:7334"}`,
	} {
		d.problem(400, CodeInvalidField, "POST", "/v1/cluster/members", body)
	}
	// H16: no address that leads elsewhere than to a node.
	for _, addr := range []string{
		"host4", "host4:", ":7334", "host4:0", "host4:65536", "host4:http", "http://host4:7334", "host4:7334/path", "user@host4:7334",
		"0.0.0.0:7334", "[::]:7334", "169.254.169.254:80", "[fe80::1]:7334", "[fe80::1%eth0]:7334", "[::ffff:169.254.169.254]:80",
		"224.0.0.1:7334", "[ff02::1]:7334", "[::ffff:0.0.0.0]:7334",
	} {
		d.problem(400, CodeInvalidField, "POST", "/v1/cluster/members", `{"add":"n4","address":"`+addr+`"}`)
	}
	d.problem(400, CodeInvalidField, "POST", "/v1/cluster/transfer", `{"to":3}`)
	d.problem(400, CodeInvalidField, "DELETE", "/v1/cluster/members/"+strings.Repeat("n", 65), "")
	if c.asked != nil {
		t.Errorf("asked for %v", c.asked)
	}
}

func TestRefusedChanges(t *testing.T) {
	d := openDoor(t)
	c := &cluster{Backend: d.backend.Backend}
	d.backend.Backend = c
	for _, tt := range []struct {
		err    error
		status int
		code   Code
		detail string
	}{
		{fmt.Errorf("%w: %w", node.ErrUnavailable, &node.RefusedError{Sentence: "there is no node n9 in this cluster"}), 409, CodeRefused, "There is no node n9 in this cluster."},
		{errors.New("the last voter of a cluster can't be removed"), 409, CodeRefused, "The last voter of a cluster can't be removed."},
		{node.ErrUnavailable, 503, CodeUnavailable, "nothing was changed"},
		{node.ErrUnknown, 503, CodeUnknown, "look at the cluster"},
	} {
		c.err = tt.err
		p := d.problem(tt.status, tt.code, "DELETE", "/v1/cluster/members/n9", "")
		if detail, _ := p["detail"].(string); !strings.Contains(detail, tt.detail) {
			t.Errorf("%v is told as %q", tt.err, detail)
		}
	}
}

// What is newer than the oldest node is refused with the name of that node, if it is known.
func TestNotYetSupported(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{
		{&node.NotYetError{Behind: []string{"node n2 runs an older version"}}, "that knows it: node n2 runs an older version."},
		{fmt.Errorf("%w (at the leader)", node.ErrNotYetSupported), "doubledutch cluster status shows their versions."},
	} {
		e := asError(backendError(t.Context(), tt.err))
		if e.Code != CodeNotYetSupported || e.status() != 501 || !strings.HasSuffix(e.Detail, tt.want) {
			t.Errorf("%v is told as %s (%d): %s", tt.err, e.Code, e.status(), e.Detail)
		}
	}
}

// TestStaleReads: a node that reaches nobody still says what it has, and how old that may be.
func TestStaleReads(t *testing.T) {
	d := openDoor(t)
	d.take("a")
	d.backend.Backend = &cluster{Backend: d.backend.Backend}
	d.problem(503, CodeUnavailable, "GET", "/v1/locks/a", "")
	d.problem(503, CodeUnavailable, "GET", "/v1/locks", "")
	d.problem(503, CodeUnavailable, "GET", "/v1/locks/a?consistency=linearizable", "")
	for path, want := range map[string]string{"/v1/locks/a": `{"name":"a","held":true,`, "/v1/locks": `{"locks":[{"name":"a","held":true,`, "/v1/locks?prefix=b": `{"locks":[]`} {
		a := d.want(200, "*", "GET", withQuery(path, "consistency=stale"), "")
		var got struct {
			Consistency string
			Index       uint64 `json:"applied_index"`
			Age         float64
		}
		if err := json.Unmarshal([]byte(a.body), &got); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(a.body, want) || got.Consistency != "stale" || got.Index == 0 || got.Age != 1.501 {
			t.Errorf("%s: %s", path, a.body)
		}
	}
	d.problem(400, CodeInvalidName, "GET", "/v1/locks/..?consistency=stale", "")
	for _, q := range []string{"consistency=", "consistency=STALE", "consistency=stale&consistency=stale"} {
		d.problem(400, CodeInvalidField, "GET", "/v1/locks/a?"+q, "")
		d.problem(400, CodeInvalidField, "GET", "/v1/locks?"+q, "")
	}
}

func (e *echo) ReadStale(f func(*locktable.Table, uint64, time.Duration)) { f(e.table, 0, 0) }
func (*echo) Members(context.Context) []node.MemberStatus                 { return nil }
func (*echo) Add(string, string) error                                    { return nil }
func (*echo) Remove(string) error                                         { return nil }
func (*echo) Promote(string) error                                        { return nil }
func (*echo) Transfer(string) error                                       { return nil }
func (*echo) Backup(context.Context, string) (io.ReadCloser, error)       { return nil, node.ErrUnavailable }

func (*echo) SetCalendar(context.Context, bool) (locktable.Outcome, error) {
	return locktable.Outcome{}, node.ErrUnavailable
}

// TestSetCalendar: an operator can take back what a clock that was ahead has done.
func TestSetCalendar(t *testing.T) {
	d := openDoor(t)
	ahead := time.Now().AddDate(10, 0, 0)
	if _, err := d.backend.Propose(t.Context(), command.FromCalendar(&command.Calendar{At: ahead.UnixNano()})); err != nil {
		t.Fatal(err)
	}
	before := time.Now()
	got, err := time.Parse(time.RFC3339, d.ok("POST", "/v1/cluster/calendar", "")["calendar"].(string))
	if err != nil || got.Before(before.Add(-time.Second)) || got.After(time.Now().Add(time.Second)) {
		t.Errorf("%v, %v", got, err)
	}
	if !strings.Contains(d.logs.String(), "the calendar was set by request") {
		t.Error("it is not in the log")
	}
}
