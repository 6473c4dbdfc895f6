package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/doubledutch-lock/doubledutch/cmd/doubledutch/exitcode"
)

// taskCmd is about things to be done once.
type taskCmd struct {
	Claim    taskClaimCmd    `cmd:"" help:"Ask for permission to do a task, and print the key."`
	Complete taskCompleteCmd `cmd:"" help:"Report that a task is done."`
	Fail     taskFailCmd     `cmd:"" help:"Report that an attempt failed."`
	Renew    taskRenewCmd    `cmd:"" help:"Start the lifetime of a claim anew, and tell how far it is."`
	Show     taskShowCmd     `cmd:"" help:"Show how a task stands."`
	Ls       taskLsCmd       `cmd:"" help:"List tasks."`
	Forget   taskForgetCmd   `cmd:"" help:"Forget the record of a task, so that it can be done again."`
	Settle   taskSettleCmd   `cmd:"" help:"Decide about a task that is unknown or failed."`
}

// taskAnswer is what the server says of a task.
type taskAnswer struct {
	Name        string   `json:"name"`
	Status      string   `json:"status"`
	Key         string   `json:"key"`
	Token       uint64   `json:"token"`
	Attempt     int      `json:"attempt"`
	Owner       string   `json:"owner"`
	Metadata    string   `json:"metadata"`
	Progress    string   `json:"progress"`
	Result      string   `json:"result"`
	Error       string   `json:"error"`
	ExpiresIn   float64  `json:"expires_in"`
	ClaimableIn *float64 `json:"claimable_in"`
	Since       string   `json:"since"`
	Ended       string   `json:"ended"`
	QueueLength int      `json:"queue_length"`
	Slot        *struct {
		Start string `json:"start"`
		End   string `json:"end"`
	} `json:"slot"`
}

// taskPath is the path of a task's resource.
func taskPath(name string) (string, error) { return namedPath("tasks", name) }

// namedPath is the path of something with a name.
func namedPath(what, name string) (string, error) {
	if name == "" || name == "." || name == ".." {
		return "", exitcode.With(exitcode.Usage, fmt.Errorf("%q cannot be the name of one of the %s", name, what))
	}
	return "/v1/" + what + "/" + url.PathEscape(name), nil
}

// taskClaimCmd claims a task.
type taskClaimCmd struct {
	Name        string   `arg:"" help:"Name of the task."`
	TTL         lifetime `name:"ttl" placeholder:"DURATION" help:"How long the claim lasts unless renewed (the server's default: 30s)."`
	Wait        waiting  `placeholder:"DURATION" help:"How long to wait until the task is done by others or ours; \"forever\" for as long as it takes. Without it: only ask."`
	Keep        waiting  `default:"forever" placeholder:"DURATION" help:"How long the record stays after the task is over (default ${default})."`
	MaxAttempts uint32   `placeholder:"N" help:"How many attempts there may be (default: any number)."`
	RetryDelay  seconds  `placeholder:"DURATION" help:"How long after a failed attempt the next can begin."`
	AtMostOnce  bool     `help:"If its claimant is lost, the task is never given to another one; an operator settles it."`
	Every       lifetime `placeholder:"DURATION" help:"Once in each slot of this length."`
	Cron        filled   `placeholder:"EXPRESSION" help:"Once after each time of this cron expression, by the cluster's calendar."`
	Zone        filled   `placeholder:"NAME" help:"Time zone of the cron expression, such as Europe/Zurich (default: UTC)."`
	AtLeast     seconds  `placeholder:"DURATION" help:"Not sooner than this after the end of the last run."`
	Key         secret   `env:"DOUBLEDUTCH_TASK_KEY" placeholder:"KEY" help:"Key to have the claim by; made at random if not given. Asking again with the same key is harmless."`
	Session     secret   `placeholder:"ID" help:"Session that is to have the claim."`
	Owner       string   `placeholder:"TEXT" help:"Who claims it, for others to see (default: user@host)."`
	Metadata    string   `placeholder:"TEXT" help:"Anything else that others should see."`
	clientFlags
}

// Help shows how a script uses it.
func (*taskClaimCmd) Help() string {
	return `If the task is yours, the key goes to standard output and the exit code is 0. Otherwise the exit code says how it stands:
3 somebody else does it or it has to wait, 6 it is done, 7 it has failed or nobody knows how it ended.

Examples:

    KEY=$(doubledutch task claim --wait 5m --ttl 1m migrate-42)
    KEY=$(doubledutch task claim --cron "30 2 * * *" --zone Europe/Zurich nightly) && nightly-job`
}

// claimBody is what the server is asked for.
type claimBody struct {
	TTL         float64 `json:"ttl,omitempty"`
	Wait        float64 `json:"wait,omitempty"`
	Keep        float64 `json:"keep"`
	MaxAttempts uint32  `json:"max_attempts,omitempty"`
	RetryDelay  float64 `json:"retry_delay,omitempty"`
	AtMostOnce  bool    `json:"at_most_once,omitempty"`
	Every       float64 `json:"every,omitempty"`
	Cron        string  `json:"cron,omitempty"`
	Zone        string  `json:"zone,omitempty"`
	AtLeast     float64 `json:"at_least,omitempty"`
	Key         string  `json:"key"`
	Session     string  `json:"session,omitempty"`
	Owner       string  `json:"owner,omitempty"`
	Metadata    string  `json:"metadata,omitempty"`
}

func (t *taskClaimCmd) body() *claimBody {
	b := &claimBody{
		TTL: t.TTL.json(), Keep: time.Duration(t.Keep).Seconds(), MaxAttempts: t.MaxAttempts, RetryDelay: t.RetryDelay.json(),
		AtMostOnce: t.AtMostOnce, Every: t.Every.json(), Cron: string(t.Cron), Zone: string(t.Zone), AtLeast: t.AtLeast.json(),
		Key: t.Key.reveal(), Session: t.Session.reveal(), Owner: t.Owner, Metadata: t.Metadata,
	}
	if b.Key == "" {
		b.Key = newKey()
	}
	if b.Owner == "" {
		b.Owner = defaultOwner()
	}
	return b
}

// Run claims the task.
func (t *taskClaimCmd) Run(c *console) error {
	path, err := taskPath(t.Name)
	if err != nil {
		return err
	}
	outlivePipes() // if nobody reads the key, the attempt is reported as failed
	return t.run(c, func(ctx context.Context, server *client) error {
		body := t.body()
		got, err := t.claim(ctx, server, path, body)
		if err != nil {
			return err
		}
		var a taskAnswer
		if err := decode(got.body, &a); err != nil {
			return err
		}
		if err := t.print(c, got, &a); err != nil {
			if a.Status == "claimed" {
				undo, cancel := context.WithTimeout(context.Background(), 2*time.Second)
				defer cancel()
				_, _ = server.do(undo, request{method: http.MethodPost, path: path + "/fail", body: map[string]any{"key": body.Key, "error": "the key could not be printed"}})
			}
			return err
		}
		return a.asExit()
	})
}

// claim asks until there is an answer, with the same key each time. A place or claim whose answer is lost is taken back by the
// server.
func (t *taskClaimCmd) claim(ctx context.Context, server *client, path string, body *claimBody) (*answer, error) {
	started := time.Now()
	reached := started
	again := &acquireCmd{Wait: t.Wait}
	for {
		body.Wait = again.remaining(time.Since(started))
		got, err := server.do(ctx, request{method: http.MethodPost, path: path, body: body, wait: time.Duration(t.Wait)})
		if err == nil || !again.worthAnotherTry(err, started, reached, server.timeout) {
			return got, err
		}
		if answered(err) {
			reached = time.Now()
		}
		if err := pause(ctx, retryPause); err != nil {
			return nil, err
		}
	}
}

func (t *taskClaimCmd) print(c *console, got *answer, a *taskAnswer) error {
	if t.JSON {
		return printRaw(c.out, got.body)
	}
	if a.Status != "claimed" {
		return nil // the exit code and the message say it
	}
	if _, err := fmt.Fprintln(c.out, a.Key); err != nil {
		return fmt.Errorf("cannot print the key: %w", err)
	}
	_, err := fmt.Fprintf(c.err, "claimed %q: token %d, attempt %d, expires in %s\n", t.Name, a.Token, a.Attempt, ago(a.ExpiresIn))
	return err
}

// asExit is how the task stands, as the end of a program.
func (a *taskAnswer) asExit() error {
	text := a.sentence()
	switch a.Status {
	case "claimed":
		return nil
	case "done":
		return exitcode.With(exitcode.TaskDone, errors.New(text))
	case "failed", "unknown":
		return exitcode.With(exitcode.TaskFailed, errors.New(text))
	}
	return exitcode.With(exitcode.Held, errors.New(text))
}

// sentence says how the task stands.
func (a *taskAnswer) sentence() string {
	who := ""
	if a.Owner != "" {
		who = " by " + a.Owner
	}
	switch a.Status {
	case "running":
		text := fmt.Sprintf("the task is running, attempt %d%s; the claim expires in %s unless renewed", a.Attempt, who, ago(a.ExpiresIn))
		if a.Progress != "" {
			text += "; " + a.Progress
		}
		return text
	case "done":
		if a.Result == "" {
			return "the task is done" + who
		}
		return "the task is done" + who + ": " + a.Result
	case "failed":
		return fmt.Sprintf("the task has failed after %d attempts: %s", a.Attempt, cell(a.Error))
	case "unknown":
		return "the claimant of the task was lost" + who + ", and nobody knows how far it came; see \"doubledutch task settle\""
	case "open":
		text := "the task is open"
		if a.ClaimableIn != nil {
			text += " and can be claimed in " + ago(*a.ClaimableIn)
		}
		if a.Error != "" {
			text += "; its last attempt failed: " + a.Error
		}
		return text
	}
	return "the task is " + a.Status
}

// taskHold is the task and the key by which its claimant acts.
type taskHold struct {
	Name string `arg:"" help:"Name of the task."`
	Key  secret `arg:"" optional:"" env:"DOUBLEDUTCH_KEY" help:"The key that claim printed, or - to read it from standard input. Other users of this machine can see command lines: prefer the variable or -."`
	clientFlags
}

// post sends body and the key to one of the task's resources.
func (h *taskHold) post(c *console, what string, body map[string]any, say func(*taskAnswer) string) error {
	path, err := taskPath(h.Name)
	if err != nil {
		return err
	}
	if body["key"], err = (&hold{Key: h.Key}).key(c.in); err != nil {
		return err
	}
	return h.run(c, func(ctx context.Context, server *client) error {
		got, err := server.do(ctx, request{method: http.MethodPost, path: path + "/" + what, body: body})
		if err != nil {
			return err
		}
		var a taskAnswer
		return h.report(c, got, &a, func() string { return say(&a) })
	})
}

// taskCompleteCmd reports the end.
type taskCompleteCmd struct {
	taskHold
	Result string `placeholder:"TEXT" help:"What came of it, for those who wait or ask later."`
}

// Help shows how a script uses it.
func (*taskCompleteCmd) Help() string {
	return `If the claim was lost, nothing changes and the exit code is 4.

Examples:

    doubledutch task complete migrate-42 "$KEY" --result "schema is at 42"`
}

// Run reports it.
func (t *taskCompleteCmd) Run(c *console) error {
	return t.post(c, "complete", map[string]any{"result": t.Result}, func(*taskAnswer) string { return fmt.Sprintf("completed %q", t.Name) })
}

// taskFailCmd reports a failed attempt.
type taskFailCmd struct {
	taskHold
	Error string `placeholder:"TEXT" help:"What went wrong."`
}

// Help shows how a script uses it.
func (*taskFailCmd) Help() string {
	return `If the claim was lost, nothing changes and the exit code is 4.

Examples:

    doubledutch task fail migrate-42 "$KEY" --error "the database is read-only"`
}

// Run reports it.
func (t *taskFailCmd) Run(c *console) error {
	return t.post(c, "fail", map[string]any{"error": t.Error}, func(a *taskAnswer) string {
		text := fmt.Sprintf("failed %q: it is %s now", t.Name, a.Status)
		if a.ClaimableIn != nil {
			text += ", and can be claimed in " + ago(*a.ClaimableIn)
		}
		return text
	})
}

// taskRenewCmd renews a claim.
type taskRenewCmd struct {
	taskHold
	TTL      lifetime `name:"ttl" placeholder:"DURATION" help:"New lifetime (default: the one it has)."`
	Progress *string  `placeholder:"TEXT" help:"How far it is, for whoever looks."`
}

// Help shows how a script uses it.
func (*taskRenewCmd) Help() string {
	return `If the claim was lost, the exit code is 4: stop working.

Examples:

    doubledutch task renew migrate-42 "$KEY" --progress "3 of 7 tables"`
}

// Run renews the claim.
func (t *taskRenewCmd) Run(c *console) error {
	body := map[string]any{}
	if t.TTL > 0 {
		body["ttl"] = t.TTL.json()
	}
	if t.Progress != nil {
		body["progress"] = *t.Progress
	}
	return t.post(c, "renew", body, func(a *taskAnswer) string { return fmt.Sprintf("renewed %q: expires in %s", t.Name, ago(a.ExpiresIn)) })
}

// taskShowCmd shows one task.
type taskShowCmd struct {
	Name   string `arg:"" help:"Name of the task."`
	Result bool   `help:"Print the result alone; the exit code is that of claim if the task is not done."`
	clientFlags
}

// Help shows an example.
func (*taskShowCmd) Help() string {
	return `Examples:

    doubledutch task show nightly
    RESULT=$(doubledutch task show --result migrate-42)`
}

// Run shows the task.
func (t *taskShowCmd) Run(c *console) error {
	path, err := taskPath(t.Name)
	if err != nil {
		return err
	}
	return t.run(c, func(ctx context.Context, server *client) error {
		got, err := server.do(ctx, request{method: http.MethodGet, path: path})
		if err != nil {
			return err
		}
		if t.JSON {
			return printRaw(c.out, got.body)
		}
		var a taskAnswer
		if err := decode(got.body, &a); err != nil {
			return err
		}
		switch {
		case t.Result && a.Status == "done":
			_, err = fmt.Fprintln(c.out, a.Result)
			return err
		case t.Result:
			return a.asExit()
		}
		return printTask(c.out, &a)
	})
}

// printTask prints what there is to know.
func printTask(w io.Writer, a *taskAnswer) error {
	t := newTable(w)
	t.line(cell(a.Name) + ": " + printable(a.sentence()))
	t.line("")
	for _, row := range [][2]string{
		{"STATUS", a.Status},
		{"ATTEMPT", strconv.Itoa(a.Attempt)},
		{"TOKEN", strconv.FormatUint(a.Token, 10)},
		{"OWNER", a.Owner},
		{"METADATA", a.Metadata},
		{"SINCE", a.Since},
		{"ENDED", a.Ended},
		{"PROGRESS", a.Progress},
		{"ERROR", a.Error},
		{"WAITING", strconv.Itoa(a.QueueLength)},
	} {
		if row[1] != "" {
			t.row(row[0], cell(row[1]))
		}
	}
	if a.Slot != nil {
		t.row("SLOT", cell(a.Slot.Start+" to "+a.Slot.End))
	}
	return t.done()
}

// taskLsCmd lists tasks.
type taskLsCmd struct {
	Prefix string `arg:"" optional:"" help:"Only tasks whose names begin so."`
	clientFlags
}

// Help shows an example.
func (*taskLsCmd) Help() string {
	return `Examples:

    doubledutch task ls
    doubledutch task ls nightly/ --json`
}

// Run lists the tasks, page by page.
func (t *taskLsCmd) Run(c *console) error {
	return t.run(c, func(ctx context.Context, server *client) error {
		tab := newTable(c.out)
		if !t.JSON {
			tab.row("TASK", "STATUS", "ATTEMPT", "OWNER", "TOKEN", "WAITING")
		}
		for cursor := ""; ; {
			q := url.Values{"limit": {strconv.Itoa(maxPage)}, "prefix": {t.Prefix}}
			if cursor != "" {
				q.Set("cursor", cursor)
			}
			got, err := server.do(ctx, request{method: http.MethodGet, path: "/v1/tasks?" + q.Encode()})
			if err != nil {
				return err
			}
			var page struct {
				Tasks  []taskAnswer `json:"tasks"`
				Cursor string       `json:"cursor"`
			}
			if err := decode(got.body, &page); err != nil {
				return err
			}
			if t.JSON {
				if err := printRaw(c.out, got.body); err != nil {
					return err
				}
			}
			for i := range page.Tasks {
				if a := &page.Tasks[i]; !t.JSON {
					tab.row(cell(a.Name), cell(a.Status), strconv.Itoa(a.Attempt), cell(a.Owner), strconv.FormatUint(a.Token, 10), strconv.Itoa(a.QueueLength))
				}
			}
			if page.Cursor == "" || page.Cursor == cursor {
				return tab.done()
			}
			cursor = page.Cursor
		}
	})
}

// taskForgetCmd forgets a record.
type taskForgetCmd struct {
	Name  string `arg:"" help:"Name of the task."`
	Token uint64 `env:"DOUBLEDUTCH_FORGET_TOKEN" placeholder:"TOKEN" help:"Only if this is still its newest token; needed for a task that runs."`
	clientFlags
}

// Help shows an example.
func (*taskForgetCmd) Help() string {
	return `Examples:

    doubledutch task forget migrate-42`
}

// Run forgets it.
func (t *taskForgetCmd) Run(c *console) error {
	path, err := taskPath(t.Name)
	if err != nil {
		return err
	}
	if t.Token != 0 {
		path += "?token=" + strconv.FormatUint(t.Token, 10)
	}
	return t.run(c, func(ctx context.Context, server *client) error {
		got, err := server.do(ctx, request{method: http.MethodDelete, path: path})
		if err != nil {
			return err
		}
		return t.report(c, got, &struct{}{}, func() string { return fmt.Sprintf("forgot %q", t.Name) })
	})
}

// taskSettleCmd decides about a task.
type taskSettleCmd struct {
	Name    string `arg:"" help:"Name of the task."`
	Verdict string `arg:"" enum:"done,failed,retry" help:"done, failed or retry (it can be claimed again)."`
	Token   uint64 `required:"" env:"DOUBLEDUTCH_SETTLE_TOKEN" placeholder:"TOKEN" help:"The token of the attempt, as show tells it."`
	Result  string `placeholder:"TEXT" help:"With done: what came of it."`
	Error   string `placeholder:"TEXT" help:"With failed or retry: what went wrong."`
	clientFlags
}

// Help shows an example.
func (*taskSettleCmd) Help() string {
	return `Examples:

    doubledutch task settle payout-17 done --token 42 --result "seen in the bank statement"`
}

// Run settles it.
func (t *taskSettleCmd) Run(c *console) error {
	path, err := taskPath(t.Name)
	if err != nil {
		return err
	}
	body := map[string]any{"verdict": t.Verdict, "token": t.Token}
	if t.Result != "" {
		body["result"] = t.Result
	}
	if t.Error != "" {
		body["error"] = t.Error
	}
	return t.run(c, func(ctx context.Context, server *client) error {
		got, err := server.do(ctx, request{method: http.MethodPost, path: path + "/settle", body: body})
		if err != nil {
			return err
		}
		var a taskAnswer
		return t.report(c, got, &a, func() string { return fmt.Sprintf("settled %q: it is %s now", t.Name, a.Status) })
	})
}
