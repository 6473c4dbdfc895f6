package server

import (
	"strings"
	"testing"

	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

func TestSetRefusesBadInput(t *testing.T) {
	d := openDoor(t)
	for _, c := range []struct{ body, field string }{
		{``, "names"},
		{`{}`, "names"},
		{`{"names":"a"}`, "names"},
		{`{"names":[]}`, "names"},
		{`{"names":[1]}`, "names"},
		{`{"names":[null]}`, "names"},
		{`{"names":[["a"]]}`, "names"},
		{`{"names":["a","a"]}`, "names"},
		{`{"names":["a",{"name":"a"}]}`, "names"},
		{`{"names":[{}]}`, "names"},
		{`{"names":[{"name":""}]}`, "names"},
		{`{"names":[{"name":"a","mode":"x"}]}`, "names"},
		{`{"names":[{"name":"a","slots":0}]}`, "names"},
		{`{"names":[{"name":"a","slots":2,"mode":"shared"}]}`, "names"},
		{`{"names":[{"name":"a","ttl":2}]}`, "names"},
		{`{"names":["a"],"mode":"shared"}`, "mode"},
		{`{"names":["a"],"slots":2}`, "slots"},
		{`{"names":["a"],"name":"b"}`, "name"},
		{`{"names":["a"],"ttl":0}`, "ttl"},
		{`{"names":["a"],"session":"` + key(1) + `","ttl":5}`, "ttl"},
		{`{"names":["` + strings.Repeat(`a","b`, maxSetNames) + `"]}`, "names"},
	} {
		p := d.problem(400, CodeInvalidField, "POST", "/v1/locks", c.body)
		if f, _ := p["field"].(string); f != c.field {
			t.Errorf("%s: the field is %q, want %q", c.body, f, c.field)
		}
	}
	d.problem(400, CodeInvalidName, "POST", "/v1/locks", `{"names":["a",".."]}`)
	d.problem(400, CodeInvalidName, "POST", "/v1/locks", `{"names":["a","b\u0000"]}`)
	d.problem(400, CodeInvalidField, "POST", "/v1/locks", `{"names":["a"]}`, "Idempotency-Key", "1")
	p := d.problem(400, CodeInvalidField, "POST", "/v1/locks", `{"names":["a",{"name":"b","mode":"x"}]}`)
	if detail, _ := p["detail"].(string); !strings.Contains(detail, "element 2") || !strings.Contains(detail, "mode") {
		t.Errorf("the detail does not say what is wrong: %s", detail)
	}
	if n := d.backend.asked(); n != 0 {
		t.Errorf("%d acquires reached the table", n)
	}
}

func TestDeadlockIsTold(t *testing.T) {
	d := openDoor(t)
	d.backend.plan(locktable.Outcome{Code: locktable.Deadlock, Cycle: &locktable.Chain{Waits: []locktable.Wait{
		{Owner: "a", Lock: "x", HeldBy: "b", Token: 7}, {Owner: "b", Lock: "y", HeldBy: "", Queued: true},
	}}})
	p := d.problem(409, CodeDeadlock, "POST", "/v1/locks/x", "")
	if p["detail"] != `This would wait for itself: a waits for "x", held by b; b waits for "y", behind somebody without a name in the queue.` {
		t.Errorf("the detail is %s", p["detail"])
	}
	cycle, _ := p["cycle"].([]any)
	if len(cycle) != 2 {
		t.Fatalf("the cycle is %v", cycle)
	}
	first, _ := cycle[0].(map[string]any)
	second, _ := cycle[1].(map[string]any)
	if first["owner"] != "a" || first["waits_for"] != "x" || first["held_by"] != "b" || first["token"] != 7.0 || second["queued"] != true {
		t.Errorf("the cycle is %v", cycle)
	}
	d.backend.plan(locktable.Outcome{Code: locktable.Deadlock}) // as it is repeated under a request's number
	if p := d.problem(409, CodeDeadlock, "POST", "/v1/locks/x", ""); p["cycle"] != nil {
		t.Errorf("%v", p)
	}
}
