package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/doubledutch-lock/doubledutch/cmd/doubledutch/exitcode"
	"github.com/doubledutch-lock/doubledutch/internal/supervise"
)

// runCmd runs a command that holds a lock, has a task, or both.
type runCmd struct {
	Name     string `arg:"" optional:"" help:"Name of the lock, or names with commas between them: all of them or none. Not needed with --once."`
	OneName  bool   `help:"The name is one name, also with a comma in it."`
	Nonblock bool   `short:"n" help:"Do not wait: the same as --if-busy=fail."`
	// The default is forever, as with flock; that a wait was given at all matters with --if-busy.
	Wait             *waiting `short:"w" placeholder:"SECONDS" help:"How long to wait at most for the lock, or for the task (default: as long as it takes)."`
	IfBusy           string   `enum:"wait,skip,fail" default:"wait" help:"What to do if others have it: wait, skip (exit code 0) or fail. With -w, after that time."`
	ConflictExitCode uint8    `short:"E" default:"1" placeholder:"CODE" help:"Exit code if others have it (default ${default})."`
	Shared           bool     `short:"s" help:"Hold the lock together with others that do so (readers)."`
	Exclusive        bool     `short:"x" help:"Hold the lock alone (default)."`
	Slots            uint32   `placeholder:"N" help:"Use the lock as a semaphore that N commands can have at once."`

	Once        filled   `placeholder:"KEY" help:"Do it as the task of this name: once over all machines, and not again after it has succeeded."`
	Keep        waiting  `default:"forever" placeholder:"DURATION" help:"How long it counts as done (default ${default})."`
	Every       lifetime `placeholder:"DURATION" help:"Once in each slot of this length. Without --once, the lock's name is that of the task, too."`
	Cron        filled   `placeholder:"EXPRESSION" help:"Once after each time of this cron expression, by the cluster's calendar."`
	Zone        filled   `placeholder:"NAME" help:"Time zone of the cron expression, such as Europe/Zurich (default: UTC)."`
	MaxAttempts uint32   `placeholder:"N" help:"How often the task may be attempted (default: until it succeeds)."`

	TTL       lifetime `name:"ttl" default:"30s" placeholder:"DURATION" help:"How long others have to wait at most when this machine dies (default ${default})."`
	Grace     *seconds `placeholder:"DURATION" help:"If the lock cannot be kept: how long the command has between TERM and KILL (default: a sixth of --ttl)."`
	OnLost    string   `enum:"kill,signal,warn" default:"kill" help:"If the lock cannot be kept: kill the command in time (TERM before KILL), only signal TERM, or only warn."`
	Leftover  string   `enum:"wait,kill,leave" default:"wait" help:"What the command leaves running at its end: wait for it, kill it (TERM before KILL), or leave what has left its process group."`
	LockDelay seconds  `placeholder:"DURATION" help:"If the hold expires or is broken, how long the lock stays blocked."`
	Reason    string   `placeholder:"TEXT" help:"Why, for others to see (default: the name of the command)."`
	Owner     string   `placeholder:"TEXT" help:"Who holds the lock, for others to see (default: user@host)."`
	Verbose   bool     `help:"Tell on standard error what happens."`
	serverFlags
}

// Help shows how a script uses it.
func (*runCmd) Help() string {
	return `The command runs without a shell, with this program's standard input, output and error, and its exit code is
this program's. The lock is released when the command and everything that it has started are gone. If the lock cannot be kept,
because no server can be reached, all of that is killed before anybody else can have the lock. The letters are those of flock(1).

Examples:

    doubledutch run database -- ./migrate --all
    doubledutch run -n backups -- rsync -a /data /mnt/backup || echo "somebody is at it"
    doubledutch run -w 60 -E 75 accounts/alice,accounts/bob -- ./transfer
    doubledutch run --slots 3 --ttl 10s gpu -- ./render scene-17
    doubledutch run --once migrate-42 -- ./migrate
    doubledutch run nightly --cron "30 2 * * *" --zone Europe/Zurich --if-busy=skip -- ./nightly-job

In the environment of the command: DOUBLEDUTCH_LOCK, DOUBLEDUTCH_TOKEN (for fencing), DOUBLEDUTCH_KEY_FILE,
DOUBLEDUTCH_SERVER, the same with DOUBLEDUTCH_TASK, and DOUBLEDUTCH_EXPIRES_FD and DOUBLEDUTCH_LOST_FD, descriptors
that tell the deadline and its loss. If others have the lock, the exit code is that of -E.`
}

// cutCommand takes what stands behind the first -- from the command line of run: it is not for this program's parser.
func cutCommand(args []string) (ours, command []string) {
	end := slices.Index(args, "--")
	if end < 0 || verbOf(args[:end]) != "run" {
		return args, nil
	}
	return args[:end:end], append([]string{}, args[end+1:]...)
}

// verbOf is the first argument that is neither a flag nor the value of the one flag that can stand before a verb.
func verbOf(args []string) string {
	for i, a := range args {
		if !strings.HasPrefix(a, "-") && (i == 0 || args[i-1] != "--config") {
			return a
		}
	}
	return ""
}

// AfterApply settles which of the ways to say a thing counts.
func (r *runCmd) AfterApply(ctx *kong.Context) error {
	s := newSources(ctx)
	for _, rivals := range [][]string{{"shared", "exclusive"}, {"nonblock", "wait"}, {"every", "cron"}} {
		if err := s.settle(rivals...); err != nil {
			return err
		}
	}
	if err := r.apiKey.AfterApply(ctx); err != nil { // which this method hides from the parser
		return err
	}
	return r.check(s)
}

// check refuses what contradicts itself.
func (r *runCmd) check(s *sources) error {
	task := r.task()
	if r.Nonblock && s.from["if-busy"] > s.from["nonblock"] {
		r.Nonblock = false
	}
	switch {
	case r.Nonblock && s.from["if-busy"] == s.from["nonblock"] && r.IfBusy != "fail":
		return errors.New("--nonblock and --if-busy contradict each other: give one of them")
	case r.Slots > 0 && r.Shared:
		return errors.New("--slots and --shared contradict each other: a semaphore has no readers")
	case r.Name == "" && task == "":
		return errors.New("name a lock, or a task with --once")
	case r.Name == "" && (r.Shared || r.Exclusive || r.Slots > 0 || r.LockDelay > 0):
		return errors.New("there is no lock that could be shared, have slots or be delayed: name one")
	case r.Zone != "" && r.Cron == "":
		return errors.New("--zone is that of --cron, which is not given")
	case task == "" && (r.MaxAttempts > 0 || r.Keep != -1):
		return errors.New("--keep and --max-attempts are for tasks: give --once, --every or --cron, too")
	case r.grace() > r.TTL.duration()/3:
		return fmt.Errorf("--grace can be a third of --ttl at most, or a single renewal that fails would end the command; for a grace of %s, give --ttl %s",
			ago(r.grace().Seconds()), ago(3*r.grace().Seconds()))
	}
	if r.Nonblock {
		r.IfBusy = "fail"
	}
	return nil
}

// grace is the time between TERM and KILL.
func (r *runCmd) grace() time.Duration {
	if r.Grace == nil {
		return r.TTL.duration() / 6
	}
	return r.Grace.duration()
}

// reserve is how long before the end of the lease the command is killed. The client's own margin comes on top of it.
func (r *runCmd) reserve() time.Duration { return min(r.TTL.duration()/8, 2*time.Second) }

// task is the name of the task, or "".
func (r *runCmd) task() string {
	if r.Once == "" && (r.Every > 0 || r.Cron != "") {
		return r.Name
	}
	return string(r.Once)
}

// limit is how long to wait. Negative: as long as it takes.
func (r *runCmd) limit() time.Duration {
	switch {
	case r.Wait != nil:
		return time.Duration(*r.Wait)
	case r.IfBusy == "wait":
		return -1
	}
	return 0
}

// Run acquires, runs the command, and releases.
func (r *runCmd) Run(c *console) error {
	if len(c.command) == 0 {
		return exitcode.With(exitcode.Usage, errors.New(`no command: write it behind --, as in "doubledutch run NAME -- COMMAND"`))
	}
	if !supervise.Supported() {
		return exitcode.With(exitcode.RunFailed, supervise.ErrUnsupported)
	}
	if code, err := supervise.Find(c.command[0]); err != nil {
		return exitcode.With(code, err)
	}
	signals := supervise.Listen()
	run := &runJob{cmd: r, console: c, begun: time.Now()}
	if err := run.open(); err != nil {
		return exitcode.With(exitcode.Usage, err)
	}
	err := run.whole(signals)
	if exitcode.Of(err) != exitcode.RunLost { // what is still under way then, nobody needs
		run.close()
	}
	return err
}
