//go:build linux

package run

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/doubledutch-lock/doubledutch/client"
)

// verb runs `doubledutch run` against a server, with a script of bash.
func verb(t *testing.T, address string, flags, script string, env ...string) *process {
	t.Helper()
	args := append([]string{"run"}, strings.Fields(flags)...)
	return begin(t, nil, append(env, "DOUBLEDUTCH_SERVER=http://"+address), append(args, "--", "bash", "-c", script)...)
}

// ends checks how it ended, and what it printed.
func (p *process) ends(code int, contains string) {
	p.t.Helper()
	if got := p.code(); got != code || !strings.Contains(p.out.String()+p.stderr.String(), contains) {
		p.t.Errorf("it ended with %d, want %d and a text with %q; it printed\n%s%s", got, code, contains, p.out, p.stderr)
	}
}

// hold has a lock held by somebody else until the returned function is called.
func hold(t *testing.T, address, name string) (release func()) {
	t.Helper()
	lease, err := newClient(t, address).Lock(t.Context(), name, client.Owner("somebody"))
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := lease.Unlock(context.Background()); err != nil {
			t.Error(err)
		}
	}
}

func TestVerb(t *testing.T) {
	t.Parallel()
	_, address := serve(t, "127.0.0.1:0")
	t.Run("codes", func(t *testing.T) {
		for script, want := range map[string]int{"exit 0": 0, "exit 42": 42, "kill -TERM $$": 143} {
			verb(t, address, "codes", script).ends(want, "")
		}
		begin(t, nil, nil, "run", "codes", "--server", address, "--", "no-such-command").ends(127, "no-such-command")
		begin(t, nil, nil, "run", "codes", "--server", address, "--", "/").ends(126, "/")
		begin(t, nil, nil, "run", "codes", "--server", address).ends(2, "no command")
		begin(t, nil, nil, "run", "codes", "--server", address, "--").ends(2, "no command")
	})
	t.Run("unreachable", func(t *testing.T) {
		verb(t, "127.0.0.1:1", "--timeout=0.2 x", "echo began").ends(124, "no server could answer")
		verb(t, "127.0.0.1:1,http://"+address, "x", "echo began").ends(0, "began") // the other one answers
	})
	t.Run("refused", func(t *testing.T) {
		release := hold(t, address, "refused")
		defer release()
		verb(t, address, "--slots=2 refused", "echo began").ends(125, "")
	})
	t.Run("busy", func(t *testing.T) {
		release := hold(t, address, "busy")
		for flags, want := range map[string]int{
			"-n busy": 1, "--nonblock -E 75 busy": 75, "-w 0.1 busy": 1, "-w 0 -E 9 busy": 9, "--if-busy=fail busy": 1, "--if-busy=skip busy": 0,
			"-w 0.1 --if-busy=skip busy": 0, "-n -s busy": 1, "-n free,busy": 1, "-n -E 0 busy": 0,
		} {
			p := verb(t, address, flags, "echo began")
			p.ends(want, "somebody")
			if strings.Contains(p.out.String(), "began") {
				t.Errorf("%s: the command began", flags)
			}
		}
		waits := verb(t, address, "busy", "echo began")
		awaitQueue(t, address, "busy")
		release()
		waits.ends(0, "began")
	})
	t.Run("shared", func(t *testing.T) {
		up := filepath.Join(t.TempDir(), "up")
		reader := verb(t, address, "-s shared", "echo > "+up+"; sleep 300")
		awaitFile(t, up)
		verb(t, address, "-s -n shared", "echo began").ends(0, "began")
		verb(t, address, "-x -n shared", "echo began").ends(1, "held")
		reader.signal(syscall.SIGTERM)
		reader.ends(143, "")
	})
	t.Run("interrupted while it waits", func(t *testing.T) {
		release := hold(t, address, "interrupted")
		defer release()
		p := verb(t, address, "interrupted", "echo began")
		awaitQueue(t, address, "interrupted")
		p.signal(syscall.SIGINT)
		p.ends(130, "interrupted")
		info, err := newClient(t, address).Get(t.Context(), "interrupted")
		if err != nil || info.QueueLength != 0 {
			t.Errorf("it stands in the queue still: %+v, %v", info, err)
		}
	})
	t.Run("broken", func(t *testing.T) {
		up := filepath.Join(t.TempDir(), "up")
		p := verb(t, address, "--ttl=1s broken", "trap '' TERM; echo > "+up+"; while :; do sleep 0.05; done")
		awaitFile(t, up)
		begin(t, nil, nil, "break", "broken", "--yes", "--reason", "fire", "--server", address).ends(0, "")
		p.ends(123, "fire")
	})
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	_, address := serve(t, "127.0.0.1:0")
	p := verb(t, address, "a,b", `echo "<$DOUBLEDUTCH_LOCK> <$DOUBLEDUTCH_TOKEN> <$DOUBLEDUTCH_KEY> <$DOUBLEDUTCH_TASK> <$DOUBLEDUTCH_SERVER>"
stat -c "<%a>" $DOUBLEDUTCH_KEY_FILE; echo $DOUBLEDUTCH_KEY_FILE
env | grep -q "$(cat $DOUBLEDUTCH_KEY_FILE)" && echo "the key is in the environment"
`+program+` show a | grep "You hold it"`, "DOUBLEDUTCH_KEY=of-an-outer-lock", "DOUBLEDUTCH_TASK=outer", "XDG_RUNTIME_DIR="+t.TempDir())
	p.ends(0, "You hold it")
	out := p.out.String()
	if !strings.Contains(out, "<a,b> <1> <> <> <http://"+address+">\n<600>\n") || strings.Contains(out, "the key is") {
		t.Errorf("the environment is\n%s", out)
	}
	path := strings.Split(out, "\n")[2]
	if _, err := os.Stat(filepath.Dir(path)); !os.IsNotExist(err) {
		t.Errorf("%s is still there: %v", path, err)
	}
}

func TestTasks(t *testing.T) {
	t.Parallel()
	_, address := serve(t, "127.0.0.1:0")
	verb(t, address, "--once t", "echo attempt $DOUBLEDUTCH_TASK_ATTEMPT of $DOUBLEDUTCH_TASK; exit 3").ends(3, "attempt 1 of t")
	up := filepath.Join(t.TempDir(), "up")
	first := verb(t, address, "--once t", "echo > "+up+"; sleep 300")
	awaitFile(t, up)
	verb(t, address, "--once t -n -E 9", "echo began").ends(9, "the task is running")
	verb(t, address, "--once t --if-busy=skip", "echo began").ends(0, "skipped")
	waits := verb(t, address, "--once t", "echo began")
	eventually(t, "another one waits for the task", func() bool {
		info, err := newClient(t, address).Task(t.Context(), "t")
		return err == nil && info.QueueLength == 1
	})
	first.signal(syscall.SIGINT) // so the attempt has failed
	first.code()
	waits.ends(0, "began")
	verb(t, address, "--once t", "echo began again").ends(0, "the task is done")

	verb(t, address, "--once f --max-attempts 1", "exit 3").ends(3, "")
	verb(t, address, "--once f --max-attempts 1", "echo began").ends(122, "exit code 3")

	verb(t, address, "nightly --every 8784h", `echo began with $DOUBLEDUTCH_LOCK and $DOUBLEDUTCH_TASK
`+program+` task renew --progress half $DOUBLEDUTCH_TASK - < $DOUBLEDUTCH_TASK_KEY_FILE; `+program+` show nightly`).ends(0, "You hold it")
	if info, err := newClient(t, address).Task(t.Context(), "nightly"); err != nil || info.Progress != "half" {
		t.Errorf("the progress was not told: %+v, %v", info, err)
	}
	verb(t, address, "--once alone", "echo began with '$DOUBLEDUTCH_LOCK' and '$DOUBLEDUTCH_KEY_FILE'; cat $DOUBLEDUTCH_TASK_KEY_FILE").ends(0, "began with")
	verb(t, address, "nightly --every 8784h", "echo began").ends(0, "the task is done")
	verb(t, address, "--once k --keep 0", "echo began").ends(0, "began")
	verb(t, address, "--once k --keep 0", "echo began").ends(0, "began")
}

// Who has a task and a lock loses the run with either.
func TestTaskAndLock(t *testing.T) {
	t.Parallel()
	_, address := serve(t, "127.0.0.1:0")
	up := filepath.Join(t.TempDir(), "up")
	p := verb(t, address, "--ttl=1s both --once job", "trap '' TERM; echo > "+up+"; while :; do sleep 0.05; done")
	awaitFile(t, up)
	begin(t, nil, nil, "task", "forget", "job", "--token", taskToken(t, address, "job"), "--server", address).ends(0, "")
	p.ends(123, "job")
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"-- true":                            "name a lock",
		"-s -x a -- true":                    "contradict",
		"-n -w 3 a -- true":                  "contradict",
		"-n --if-busy=skip a -- true":        "contradict",
		"--slots 2 -s a -- true":             "contradict",
		"--every 1h --cron *_*_*_*_* a -- x": "contradict",
		"--keep 1h a -- true":                "--keep",
		"--zone UTC a -- true":               "--zone",
		"--grace 20s a -- true":              "--ttl",
		"-s --once a -- true":                "no lock",
		"a, -- true":                         "empty",
		"--on-lost=never a -- true":          "must be one of",
		"-E 300 a -- true":                   "300",
		"a b -- true":                        "unexpected argument b",
	} {
		fields := strings.Fields(args)
		for i := range fields {
			fields[i] = strings.ReplaceAll(fields[i], "_", " ")
		}
		begin(t, nil, nil, append([]string{"run"}, fields...)...).ends(2, want)
	}
}

func taskToken(t *testing.T, address, name string) string {
	t.Helper()
	info, err := newClient(t, address).Task(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return strconv.FormatUint(info.Token, 10)
}

func awaitQueue(t *testing.T, address, name string) {
	t.Helper()
	c := newClient(t, address)
	eventually(t, "somebody waits for "+name, func() bool {
		info, err := c.Get(t.Context(), name)
		return err == nil && info.QueueLength > 0
	})
}

func awaitFile(t *testing.T, path string) {
	t.Helper()
	eventually(t, path+" is there", func() bool { _, err := os.Stat(path); return err == nil })
}
