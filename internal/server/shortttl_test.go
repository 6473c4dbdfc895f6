package server

import (
	"net/http"
	"testing"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

// limitTTL sets the greatest lifetime of the table and lets the door notice.
func (d *door) limitTTL(most time.Duration) {
	d.t.Helper()
	set := locktable.DefaultSettings()
	set.MaxTtl = int64(most)
	out, err := d.backend.Propose(d.t.Context(), command.FromConfigure(&command.Configure{Settings: set}))
	if err != nil || out.Code != locktable.Done {
		d.t.Fatal(out.Code, err)
	}
	old := *d.server.settings.Load()
	old.at = old.at.Add(-2 * settingsFresh)
	d.server.settings.Store(&old)
}

// TestDefaultLifetimeFitsTheMaximum: where less than 30 seconds are allowed, requests without a lifetime get that.
func TestDefaultLifetimeFitsTheMaximum(t *testing.T) {
	d := openDoor(t)
	if g := d.ok("POST", "/v1/locks/before", ""); g["ttl"] != 30.0 {
		t.Errorf("by default %v", g)
	}
	d.limitTTL(10 * time.Second)
	d.take("seed")
	if c := d.want(200, "*", http.MethodGet, "/getlock?lockname=classic", "").json(t); c["lockacquired"] != true {
		t.Errorf("classic %v", c)
	}
	for _, path := range []string{"/v1/locks/a", "/v1/sessions"} {
		if g := d.ok("POST", path, ""); g["ttl"] != 10.0 {
			t.Errorf("%s: %v", path, g)
		}
	}
	for _, name := range []string{"seed", "classic"} {
		d.until("a hold of 10 s on "+name, func(tb *locktable.Table) bool {
			l, _ := tb.Lock(name, 1)
			return len(l.Holders) == 1 && l.Holders[0].TTL == 10*time.Second
		})
	}
	// What is asked for is still refused when it is too much.
	d.want(400, "*", "GET", "/getLock/b/30", "")
	d.problem(400, CodeInvalidRequest, "POST", "/v1/locks/b", `{"ttl":30}`)
}
