package server

import (
	"context"
	"fmt"
	"testing"

	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

func TestSetConversation(t *testing.T) {
	d := openDoor(t)
	body := `{"names":["b",{"name":"a","mode":"shared"},{"name":"c","slots":3}],"ttl":60,"key":"` + key(1) + `","owner":"one"}`
	g := d.ok("POST", "/v1/locks", body)
	names, _ := g["names"].([]any)
	if len(names) != 3 || names[0].(map[string]any)["name"] != "b" || names[1].(map[string]any)["mode"] != "shared" || names[2].(map[string]any)["slots"] != 3.0 {
		t.Errorf("granted %v", g)
	}
	if again := d.ok("POST", "/v1/locks", body); again["token"] != g["token"] {
		t.Errorf("again %v", again)
	}
	p := d.problem(409, CodeHeld, "POST", "/v1/locks", `{"names":["z","b"]}`)
	if h, _ := p["holder"].(map[string]any); h["owner"] != "one" || p["name"] != "b" {
		t.Errorf("held %v", p)
	}
	if l := d.ok("GET", "/v1/locks/z", ""); l["held"] != false {
		t.Errorf("one of a set that was refused is held: %v", l)
	}
	d.ok("POST", "/v1/locks", `{"names":[{"name":"a","mode":"shared"}],"key":"`+key(2)+`"}`)
	d.ok("POST", "/v1/locks/a/renew", `{"key":"`+key(1)+`","ttl":90}`)
	r := d.ok("POST", "/v1/holds/renew", `{"key":"`+key(1)+`"}`)
	if names, _ := r["names"].([]any); r["ttl"] != 90.0 || len(names) != 3 {
		t.Errorf("renewed %v", r)
	}
	if h := d.ok("GET", "/v1/holds", "", "Lock-Key", key(1)); h["held"] != true || len(h["locks"].([]any)[0].(map[string]any)["names"].([]any)) != 3 {
		t.Errorf("holds %v", h)
	}
	if l := d.ok("GET", "/v1/locks/b", ""); l["holders"].([]any)[0].(map[string]any)["set"] != 3.0 {
		t.Errorf("shown %v", l)
	}
	d.ok("DELETE", "/v1/locks/c", "", "Lock-Key", key(1))
	for _, n := range []string{"b", "c"} {
		if l := d.ok("GET", "/v1/locks/"+n, ""); l["held"] != false {
			t.Errorf("after the release %v", l)
		}
	}
	d.problem(404, CodeNotHeld, "DELETE", "/v1/holds", "", "Lock-Key", key(1))
}

func TestSetsWaitInAllQueues(t *testing.T) {
	d := openDoor(t)
	d.ok("POST", "/v1/locks", `{"names":["a","b"],"key":"`+key(1)+`"}`)
	got := make(chan *answer, 1)
	go func() {
		a, err := d.request(context.WithoutCancel(t.Context()), "POST", "/v1/locks", `{"names":["b","c"],"wait":-1,"key":"`+key(2)+`"}`)
		if err != nil {
			t.Error(err)
		}
		got <- a
	}()
	d.waiting("c", 1)
	d.problem(409, CodeHeld, "POST", "/v1/locks/c", "")
	d.ok("DELETE", "/v1/holds", "", "Lock-Key", key(1))
	if a := <-got; a.status != 200 {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestSessionsDeadlock(t *testing.T) {
	d := openDoor(t)
	for i, lock := range []string{"x", "y"} {
		s := key(10 + i)
		d.ok("POST", "/v1/sessions", fmt.Sprintf(`{"id":"%s","owner":"s%d"}`, s, i))
		d.ok("POST", "/v1/locks/"+lock, fmt.Sprintf(`{"session":"%s","owner":"s%d"}`, s, i))
	}
	first := make(chan *answer, 1)
	go func() {
		a, _ := d.request(context.WithoutCancel(t.Context()), "POST", "/v1/locks/y", `{"session":"`+key(10)+`","owner":"s0","wait":-1}`)
		first <- a
	}()
	d.until("one who waits", func(tb *locktable.Table) bool { l, _ := tb.Lock("y", 0); return l.NumWaiters == 1 })
	p := d.problem(409, CodeDeadlock, "POST", "/v1/locks/x", `{"session":"`+key(11)+`","owner":"s1","wait":10}`)
	if cycle, _ := p["cycle"].([]any); len(cycle) != 2 {
		t.Errorf("%v", p)
	}
	d.ok("DELETE", "/v1/sessions/"+key(11), "")
	if a := <-first; a == nil || a.status != 200 {
		t.Errorf("%v", a)
	}
}
