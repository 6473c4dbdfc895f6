package readme

import (
	"bytes"
	"context"
	"os/exec"
	"regexp"
	"testing"

	"github.com/doubledutch-lock/doubledutch/test/document"
)

// transcripts are the scripts of the directory examples that run against a server, with what they must print, in this order.
var transcripts = map[string][]string{
	"three-in-the-morning.sh": {
		`worker-3 +exclusive +\d+ .* nightly run\n`, `worker-7 +exclusive +1 `, `worker-8 +exclusive +2 `,
		`asked worker-3 to make way within 30s\n`, `Asked to make way by ops at .*: the backup has to begin\n`,
		`broke the hold of `, `worker-7 has the lock\.\n`,
		`The hold of this key was ended by ops: worker-3 hangs, its machine is off\.\n\(exit code 4\)\n`,
		`handed ".*" over to worker-9\n`,
		`worker-9 .* holds it now\n`, `worker-7 .* handed over to worker-9\n`, `worker-3 .* broken by ops: worker-3 hangs, its machine is off\n`,
		`history .* --at .*\n.*\nworker-3 .* broken by ops: .*\n$`,
	},
}

func TestTranscripts(t *testing.T) {
	for name, want := range transcripts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := exec.LookPath("bash"); err != nil {
				t.Skip("SKIP: there is no bash")
			}
			h := startServer(t)
			ctx, cancel := context.WithTimeout(t.Context(), document.Patience)
			defer cancel()
			cmd := exec.CommandContext(ctx, "bash", "../../examples/"+name)
			cmd.Env = append(document.Environment(), "DOUBLEDUTCH_SERVER=http://"+h.Address, "BIN="+h.Program)
			var out, complaints bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &complaints
			if err := cmd.Run(); err != nil {
				t.Fatalf("%v; it printed\n%s\n%s", err, out.String(), complaints.String())
			}
			rest := out.Bytes()
			for _, w := range want {
				at := regexp.MustCompile(w).FindIndex(rest)
				if at == nil {
					t.Fatalf("it did not print %q where it should; it printed\n%s\n%s", w, out.String(), complaints.String())
				}
				rest = rest[at[1]:]
			}
		})
	}
}
