//go:build linux

package torture

import (
	"fmt"
	"testing"
	"time"
)

// TestRollingRestart restarts all nodes in peace, one after the other, under load: nothing is refused that a retry does not
// cure, and nobody loses anything.
func TestRollingRestart(t *testing.T) {
	r := newRing(t)
	load := startLoad(r.clients, smallSize, r.seed)
	time.Sleep(500 * time.Millisecond) // some ops in peace
	for range 2 {
		for _, n := range r.c.nodes {
			r.history.impaired(n.name, "restarted", true)
			if err := n.stop(startWithin); err != nil {
				t.Fatal(err)
			}
			if err := n.start(); err != nil {
				t.Fatal(err)
			}
			if err := n.awaitReady(startWithin); err != nil {
				t.Fatal(err)
			}
			r.history.impaired(n.name, "restarted, well again", false)
		}
	}
	load.stop()
	r.agree()
	r.retire()
	lin := r.judgeAll(load)
	if n := load.gaveUp.Load(); n > 0 {
		t.Errorf("%d requests were refused however often they were repeated", n)
	}
	s := take(r.history, lin, load)
	if s.grants < 20 || s.queueGrants < 2 || s.renewals < 2 {
		t.Errorf("the run saw too little")
	}
	fmt.Printf("rolling restart: %s\n", s)
}
