package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/doubledutch-lock/doubledutch/cmd/doubledutch/exitcode"
)

func TestDurationsAreReadable(t *testing.T) {
	for d, want := range map[time.Duration]string{
		12412345 * time.Nanosecond:                            "12.4ms",
		999 * time.Nanosecond:                                 "999ns",
		1234567 * time.Microsecond:                            "1.23s",
		3*time.Hour + 25*time.Minute + 40400*time.Millisecond: "3h25m40s",
		-1500 * time.Microsecond:                              "-1.5ms",
		0:                                                     "0s",
	} {
		for format, want := range map[string]string{"json": `"took":"` + want + `"`, "text": "took=" + want + "\n"} {
			var out bytes.Buffer
			newLogger(&out, "info", format).Info("x", "took", d)
			if !strings.Contains(out.String(), want) {
				t.Errorf("as %s, %d ns are written as %s, want %s", format, d, out.String(), want)
			}
		}
	}
}

// What the limit on open files leaves for connections matters once the server serves, not when it refuses to.
func TestFewerConnectionsAreToldWhenItServes(t *testing.T) {
	const many, line = "2000000000", "limit on open files"
	dir := t.TempDir()
	r := serve(t, doubledutch(t, "--data-dir", dir, "--max-connections", many))
	waitFor(t, func() bool { return strings.Contains(r.log.String(), line) })
	again := doubledutch(t, "serve", "--data-dir", dir, "--listen", "127.0.0.1:0", "--max-connections", many).check(exitcode.DataDirInUse, "in use")
	if strings.Contains(again.stderr, line) {
		t.Errorf("a refused start says\n%s", again.stderr)
	}
}
