package server

import "testing"

// TestGetLockDeadlockIsRefused closes a circle of two, as in MySQL's error 3058: the request that would close it is refused
// at once, and has no place; the other one waits on, and gets the lock when the refused one makes way.
func TestGetLockDeadlockIsRefused(t *testing.T) {
	if _, ok := codeTable["deadlock"]; !ok {
		t.Skip("SKIP: this server does not look for deadlocks")
	}
	d := openDoor(t)
	a, b := d.connect(1), d.connect(2)
	a.getLock("n", "0")
	b.getLock("m", "0")
	waits := a.later("m", "60", 1)
	says(t, "GET_LOCK that closes a circle", b.getLock("n", "60"), "3058")
	p := d.problem(409, "deadlock", "POST", "/v1/locks/n", `{"session":"`+b.session+`","key":"`+key(1)+`","wait":60}`)
	cycle := parts(t, p, "cycle")
	if len(cycle) != 2 || cycle[0]["owner"] != "connection 2" || cycle[0]["waits_for"] != "n" || cycle[0]["held_by"] != "connection 1" ||
		cycle[1]["owner"] != "connection 1" || cycle[1]["waits_for"] != "m" || cycle[1]["held_by"] != "connection 2" {
		t.Errorf("the circle is told as %v", cycle)
	}
	says(t, "RELEASE_LOCK", b.releaseLock("m"), "1")
	says(t, "GET_LOCK of the other", <-waits, "1")
}
