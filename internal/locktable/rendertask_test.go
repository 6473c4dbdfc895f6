package locktable

import (
	"fmt"
	"maps"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/doubledutch-lock/doubledutch/internal/command"
)

// How scripts say and show tasks: "task claim KEY NAME", "task finish", "task fail", "task renew", "task forget"
// and "task settle".

func init() {
	maps.Copy(codeWords, map[Code]string{
		NotClaimable: "not claimable", NotClaimant: "not claimant", Finished: "finished", NoTask: "no task",
		TaskChanged: "task changed", TooManyTasks: "too many tasks", SlotPassed: "slot passed",
	})
}

func (p *options) taskCommand(verb string, word func(int) string) *command.Command {
	switch verb {
	case "task claim":
		return command.FromClaimTask(&command.ClaimTask{
			Key: pad(word(0)), Name: word(1), Session: pad(p.take("session")), Ttl: p.seconds("ttl"), Wait: p.seconds("wait"),
			Keep: p.seconds("keep"), MaxAttempts: uint32(p.number("attempts")), RetryDelay: p.seconds("retry"),
			AtMostOnce: p.number("at-most-once") > 0, AtLeast: p.seconds("at-least"), SlotStart: p.seconds("from"),
			SlotEnd: p.seconds("to"), Owner: p.take("owner"), Metadata: p.take("metadata"), Attachment: p.number("via"),
			Request: p.number("request"),
		})
	case "task finish", "task fail":
		return command.FromFinishTask(&command.FinishTask{
			Key: pad(word(0)), Name: word(1), Failed: verb == "task fail", Text: p.take("text"), Session: pad(p.take("session")),
			Request: p.number("request"),
		})
	case "task renew":
		r := &command.RenewTask{
			Key: pad(word(0)), Name: word(1), Ttl: p.seconds("ttl"), Session: pad(p.take("session")), Request: p.number("request"),
		}
		if _, ok := p.opt["progress"]; ok {
			r.Progress = proto.String(p.take("progress"))
		}
		return command.FromRenewTask(r)
	case "task forget":
		return command.FromForgetTask(&command.ForgetTask{Name: word(0), Token: p.number("token")})
	case "task settle":
		verdict := command.TaskVerdict_value["VERDICT_"+strings.ToUpper(word(1))]
		return command.FromSettleTask(&command.SettleTask{
			Name: word(0), Token: p.number("token"), Verdict: command.TaskVerdict(verdict), Text: p.take("text"),
		})
	}
	return nil
}

var statusWords = map[TaskStatus]string{
	0: "unknown", TaskOpen: "open", TaskRunning: "running", TaskDone: "done", TaskFailed: "failed", TaskUnknown: "in-doubt",
}

// showTask shows what there is to know about a task, except who has it.
func showTask(x TaskInfo) string {
	if x.Status == 0 {
		return " no record"
	}
	var b strings.Builder
	fmt.Fprintf(&b, " %s token=%d attempts=%d", statusWords[x.Status], x.Token, x.Attempts)
	if x.MaxAttempts > 0 {
		fmt.Fprintf(&b, "/%d", x.MaxAttempts)
	}
	if x.AtMostOnce {
		b.WriteString(" at-most-once")
	}
	optional := func(name, value string) {
		if value != "" {
			b.WriteString(" " + name + "=" + value)
		}
	}
	optional("text", x.Text)
	optional("progress", x.Progress)
	if x.SlotEnd != 0 {
		fmt.Fprintf(&b, " slot=%s-%s", secs(x.SlotStart), secs(x.SlotEnd))
	}
	until := func(t Time) string {
		if t == Never {
			return "never"
		}
		return secs(int64(t))
	}
	switch {
	case x.Status == TaskRunning:
		optional("until", until(x.Deadline))
	case x.Status == TaskOpen:
		optional("claimable", until(x.ClaimableAt))
	default:
		optional("kept", until(x.KeepUntil))
		if x.ClaimableAt != Never {
			optional("claimable", until(x.ClaimableAt))
		}
	}
	if x.Waiters > 0 {
		fmt.Fprintf(&b, " waiters=%d", x.Waiters)
	}
	return b.String()
}

var taskEventWords = map[EventKind]string{
	EventTaskClaimed: "claimed", EventTaskQueued: "task-queued", EventTaskAnswered: "answered", EventTaskCancelled: "task-cancelled",
	EventTaskProgress: "progress", EventTaskDone: "done", EventTaskFailed: "failed", EventTaskLost: "lost",
	EventTaskTakenBack: "taken-back", EventTaskSettled: "settled", EventTaskForgotten: "forgotten", EventSuperseded: "superseded",
}

func showTaskEvent(e Event) string {
	what := e.Lock
	if e.Key != (Key{}) {
		what = unpad(e.Key) + " " + e.Lock
	}
	s := taskEventWords[e.Kind] + " " + what
	switch e.Kind {
	case EventTaskClaimed:
		return fmt.Sprintf("%s token=%d until=%s attempt=%d%s\n", s, e.Token, secs(int64(e.Deadline)), e.Task.Attempts, waited(int64(e.Waited)))
	case EventTaskQueued:
		return s + "\n"
	case EventTaskCancelled:
		return s + waited(int64(e.Waited)) + "\n"
	case EventSuperseded:
		return fmt.Sprintf("%s via=%d\n", s, e.Attachment)
	case EventTaskProgress:
		return s + " progress=" + e.Task.Progress + "\n"
	case EventTaskForgotten:
		return s + "\n"
	}
	return s + ":" + showTask(*e.Task) + "\n"
}

func showTaskStats(st Stats) string {
	if st.Tasks == 0 {
		return ""
	}
	return fmt.Sprintf("tasks=%d running=%d task-waiters=%d\n", st.Tasks, st.Running, st.TaskWaiters)
}

// repeatsTask is repeats for the commands of tasks.
func repeatsTask(e Event, c *command.Command, o Outcome) bool {
	key := e.Key.Reveal()
	switch e.Kind {
	case EventTaskClaimed, EventTaskQueued, EventTaskAnswered:
		return c.GetClaimTask().GetKey() == key
	case EventTaskDone, EventTaskFailed:
		return o.Code == Finished && c.GetFinishTask().GetKey() == key
	case EventTaskProgress:
		return c.GetRenewTask().GetKey() == key
	case EventTaskSettled:
		return c.GetSettleTask().GetName() == e.Lock
	}
	return false
}
