package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TestWallClockJumps moves the wall clock of a running server by a second and by a day, forth and back, under the holders of
// locks. Nothing ends early, nothing ends late.
func TestWallClockJumps(t *testing.T) {
	t.Parallel()
	offset := filepath.Join(t.TempDir(), "offset")
	replace(t, offset, []byte("0"))
	env := []string{jumperEnv + "=" + offset}
	probe := exec.Command(os.Args[0], "true")
	probe.Env = append(os.Environ(), env...)
	probe.Args[1] = lookUp(t, "true")
	if out, err := probe.CombinedOutput(); err != nil {
		t.Skipf("SKIP: processes cannot be traced here: %v: %s", err, out)
	}
	s := start(t, options{plain: true, wrap: []string{os.Args[0]}, env: env})

	const ttl, jumps = 4 * time.Second, 4
	long := s.acquire(canaryName+"Long", request{TTL: 600})
	session := newKey()
	if r := s.post("/v1/sessions", map[string]any{"id": session, "ttl": 600}); !r.ok() {
		t.Fatal(r)
	}
	began := time.Now()
	for i, by := range []time.Duration{24 * time.Hour, -24 * time.Hour, time.Second, -time.Second} {
		name := fmt.Sprintf("%sShort%d", canaryName, i)
		hold := s.tryAcquire(context.Background(), name, request{TTL: ttl.Seconds() / jumps})
		p := s.park(name, request{TTL: 600, Wait: 60})
		replace(t, offset, fmt.Append(nil, int64(by.Seconds())))
		eventually(t, soon, fmt.Sprintf("the server's clock is off by %v", by), func() bool {
			_ = s.get("/healthz") // is logged
			off := time.Until(s.loggedTime()) - by
			return off.Abs() < 500*time.Millisecond
		})
		next := p.result(t, soon)
		if d := next.received.Sub(hold.sent); !next.ok() || d < ttl/jumps {
			t.Errorf("after a jump by %v, granted %v after a hold of %v began: %v", by, d, ttl/jumps, next)
		}
		view := s.show(canaryName + "Long")
		if !view.Held || view.Holders[0].Token != long.Token {
			t.Fatalf("after a jump by %v: %+v", by, view)
		}
		if left := view.Holders[0].ExpiresIn; left > 600 || left < 600-time.Since(began).Seconds()-1 {
			t.Errorf("after a jump by %v, the hold of 600 s expires in %v s", by, left)
		}
		if r := s.get("/v1/sessions/" + session); !r.ok() {
			t.Errorf("after a jump by %v, the session is gone: %d", by, r.status)
		}
	}
	s.release(canaryName+"Long", long.Key)
}

func lookUp(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Skip("SKIP: " + err.Error())
	}
	return path
}
