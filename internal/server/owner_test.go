package server

import "testing"

// TestOwnerOfTheSessionIsShown: who opened a session with an owner does not have to name it with each acquire and claim.
func TestOwnerOfTheSessionIsShown(t *testing.T) {
	d := openDoor(t)
	b := d.stream("/v1/events")
	d.ok("POST", "/v1/sessions", `{"id":"`+key(1)+`","owner":"worker-3"}`)
	d.ok("POST", "/v1/locks/a", `{"session":"`+key(1)+`","key":"`+key(2)+`"}`)
	d.ok("POST", "/v1/tasks/a", `{"session":"`+key(1)+`","key":"`+key(3)+`"}`)
	for _, kind := range []string{"granted", "task_claimed"} {
		if e := d.wantNext(b, kind, "a"); e.data["owner"] != "worker-3" {
			t.Errorf("%s: %v", kind, e.data)
		}
	}
	owner := func(a map[string]any) any { return a["owner"] }
	held := d.problem(409, CodeHeld, "POST", "/v1/locks/a", "")
	if h, _ := held["holder"].(map[string]any); owner(h) != "worker-3" {
		t.Errorf("held: %v", held)
	}
	look := d.ok("GET", "/v1/locks/a", "")
	if hs, _ := look["holders"].([]any); len(hs) != 1 || owner(hs[0].(map[string]any)) != "worker-3" {
		t.Errorf("a look: %v", look)
	}
	if a := d.ok("POST", "/v1/tasks/a", ""); owner(a) != "worker-3" {
		t.Errorf("running: %v", a)
	}
	d.ok("POST", "/v1/tasks/a/complete", `{"key":"`+key(3)+`"}`)
	if a := d.ok("GET", "/v1/tasks/a", ""); owner(a) != "worker-3" {
		t.Errorf("done: %v", a)
	}
}
