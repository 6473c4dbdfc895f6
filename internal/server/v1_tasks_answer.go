package server

import (
	"net/http"
	"strconv"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

var taskStatusNames = map[locktable.TaskStatus]string{
	locktable.TaskOpen: "open", locktable.TaskRunning: "running", locktable.TaskDone: "done",
	locktable.TaskFailed: "failed", locktable.TaskUnknown: "unknown",
}

// calendar returns the time of day of the cluster, by which schedules go. If the cluster has none yet, this node's clock
// becomes it; nothing that is known of the calendar is changed by that.
func (s *Server) calendar(c *call) (time.Time, error) {
	at, known, err := s.readCalendar(c)
	if err != nil || known {
		return at, err
	}
	if _, err := s.propose(c, command.FromCalendar(&command.Calendar{})); err != nil { // the leader fills in its clock
		return at, err
	}
	at, known, err = s.readCalendar(c)
	if err == nil && !known {
		at = time.Now()
	}
	return at, err
}

func (s *Server) readCalendar(c *call) (at time.Time, known bool, err error) {
	err = s.backend.Read(c.lasting(), func(t *locktable.Table, now locktable.Time) {
		var wall int64
		wall, known = t.Calendar(now)
		at = time.Unix(0, wall).UTC()
	})
	if err != nil {
		err = backendError(c.lasting(), err)
	}
	return at, known, err
}

// readTask reads a task; a task without a record is no_task.
func (s *Server) readTask(c *call, name string) (info locktable.TaskInfo, day daytime, err error) {
	found := false
	err = s.backend.Read(c.lasting(), func(t *locktable.Table, now locktable.Time) {
		info, found = t.Task(name)
		day = daytimeOf(t, now, 0)
	})
	switch {
	case err != nil:
		return info, day, backendError(c.lasting(), err)
	case !found:
		return info, day, refusal(&locktable.Outcome{Code: locktable.NoTask})
	}
	return info, day, nil
}

// showTask answers GET /v1/tasks/{name}.
func (s *Server) showTask(c *call) error {
	name := c.params[0]
	if err := noQuery(c.r.URL.RawQuery); err != nil {
		return err
	}
	if err := s.checkTaskName(c, name); err != nil {
		return err
	}
	info, day, err := s.readTask(c, name)
	if err != nil {
		return err
	}
	c.buf = append(appendTask(c.buf[:0], &info, &day, true), '}')
	return c.json(http.StatusOK)
}

// listTasks answers GET /v1/tasks. Results, errors and progress are left out: a page of them could be large.
func (s *Server) listTasks(c *call) error {
	q, err := readListQuery(c.r.URL.RawQuery)
	if err != nil {
		return err
	}
	if q.stale {
		return failField(consistencyParam, "There are no stale reads of tasks.")
	}
	b := append(c.buf[:0], `{"tasks":[`...)
	last, more := q.after, true
	for left := q.limit; left > 0 && more; {
		step := min(left, listStep)
		page, day, err := s.readTasks(c, q.prefix, last, step)
		if err != nil {
			return err
		}
		more = len(page) == step
		for i := range page {
			if left < q.limit {
				b = append(b, ',')
			}
			b = append(appendTask(b, &page[i], &day, false), '}')
			last = page[i].Name
			left--
		}
	}
	b = append(b, ']')
	if more {
		b = append(b, `,"cursor":`...)
		b = appendString(b, encodeCursor(last))
	}
	c.buf = append(b, '}')
	return c.json(http.StatusOK)
}

func (s *Server) readTasks(c *call, prefix, after string, limit int) (page []locktable.TaskInfo, day daytime, err error) {
	err = s.backend.Read(c.lasting(), func(t *locktable.Table, now locktable.Time) {
		page = t.Tasks(prefix, after, limit)
		day = daytimeOf(t, now, 0)
	})
	if err != nil {
		err = backendError(c.lasting(), err)
	}
	return page, day, err
}

// appendClaim answers one who has the claim.
func appendClaim(b []byte, a *command.ClaimTask, out *locktable.Outcome) []byte {
	b = append(b, `{"name":`...)
	b = appendString(b, a.GetName())
	b = append(b, `,"status":"claimed","key":"`...)
	b = append(b, a.GetKey()...)
	b = append(b, `","token":`...)
	b = strconv.AppendUint(b, out.Token, 10)
	b = append(b, `,"attempt":`...)
	b = strconv.AppendUint(b, uint64(max(out.Task.Attempts, 1)), 10)
	b = appendLease(b, out)
	b = append(b, `,"waited":`...)
	b = appendMillis(b, out.Waited)
	b = appendText(b, "error", out.Task.Text)
	return append(appendSlot(b, out.Task), '}')
}

// appendTask tells how a task stands, without the brace at the end; with texts, also its result, error and progress.
func appendTask(b []byte, t *locktable.TaskInfo, day *daytime, texts bool) []byte {
	b = append(b, `{"name":`...)
	b = appendString(b, t.Name)
	b = append(b, `,"status":"`...)
	b = append(b, taskStatusNames[t.Status]...)
	b = append(b, `","attempt":`...)
	b = strconv.AppendUint(b, uint64(t.Attempts), 10)
	if t.MaxAttempts > 0 {
		b = append(b, `,"max_attempts":`...)
		b = strconv.AppendUint(b, uint64(t.MaxAttempts), 10)
	}
	if t.AtMostOnce {
		b = append(b, `,"at_most_once":true`...)
	}
	if t.Token > 0 {
		b = append(b, `,"token":`...)
		b = strconv.AppendUint(b, t.Token, 10)
		b = append(b, ',')
		b = appendSince(b, t.Since, day)
	}
	b = appendText(b, "owner", t.Owner)
	b = appendText(b, "metadata", t.Metadata)
	if texts {
		b = appendText(b, "progress", t.Progress)
		b = appendText(b, textName(t), t.Text)
	}
	b = appendTaskTimes(b, t, day)
	b = appendSlot(b, t)
	b = append(b, `,"queue_length":`...)
	return strconv.AppendInt(b, int64(t.Waiters), 10)
}

// appendTaskBriefly tells one who is refused how the task stands; a comma comes first.
func appendTaskBriefly(b []byte, t *locktable.TaskInfo) []byte {
	b = append(b, `,"task":{"status":"`...)
	b = append(b, taskStatusNames[t.Status]...)
	b = append(b, `","attempt":`...)
	b = strconv.AppendUint(b, uint64(t.Attempts), 10)
	if t.Token > 0 {
		b = append(b, `,"token":`...)
		b = strconv.AppendUint(b, t.Token, 10)
	}
	return append(b, '}')
}

// textName is what the text of a task is.
func textName(t *locktable.TaskInfo) string {
	if t.Status == locktable.TaskDone {
		return "result"
	}
	return "error"
}

func appendText(b []byte, name, text string) []byte {
	if text == "" {
		return b
	}
	b = append(b, ',', '"')
	b = append(b, name...)
	b = append(b, `":`...)
	return appendString(b, text)
}

func appendTaskTimes(b []byte, t *locktable.TaskInfo, day *daytime) []byte {
	if t.Status == locktable.TaskRunning {
		return appendLease(b, &locktable.Outcome{TTL: t.TTL, Deadline: t.Deadline, Now: day.now})
	}
	if t.Ended > 0 {
		b = appendDay(append(b, ','), "ended", t.Ended, day)
	}
	if t.ClaimableAt != locktable.Never {
		b = append(b, `,"claimable_in":`...)
		b = appendMillisUp(b, max(0, t.ClaimableAt.Sub(day.now)))
	}
	if t.Status >= locktable.TaskDone && t.KeepUntil != locktable.Never {
		b = append(b, `,"forgotten_in":`...)
		b = appendMillisUp(b, max(0, t.KeepUntil.Sub(day.now)))
	}
	return b
}

// appendSlot appends the slot of the schedule that the run belongs to, if any.
func appendSlot(b []byte, t *locktable.TaskInfo) []byte {
	if t.SlotEnd == 0 {
		return b
	}
	b = append(b, `,"slot":{"start":"`...)
	b = time.Unix(0, t.SlotStart).UTC().AppendFormat(b, dayFormat)
	b = append(b, `","end":"`...)
	b = time.Unix(0, t.SlotEnd).UTC().AppendFormat(b, dayFormat)
	return append(b, `"}`...)
}

// appendFailed answers a report of a failed attempt, without the brace at the end.
func appendFailed(b []byte, out *locktable.Outcome) []byte {
	status := "failed" // also if the record is gone
	if out.Task != nil && out.Task.Status != 0 {
		status = taskStatusNames[out.Task.Status]
	}
	b = append(b, `{"status":"`...)
	b = append(b, status...)
	b = append(b, '"')
	if out.Task != nil && out.Task.Status == locktable.TaskOpen {
		b = append(b, `,"claimable_in":`...)
		b = appendMillisUp(b, max(0, out.Task.ClaimableAt.Sub(out.Now)))
	}
	return b
}

// taskSentence says for people how a task stands.
func taskSentence(t *locktable.TaskInfo) string {
	switch t.Status {
	case locktable.TaskRunning:
		return "It is running as attempt " + strconv.Itoa(int(t.Attempts)) + " under the token " + strconv.FormatUint(t.Token, 10) + "."
	case locktable.TaskOpen:
		return "It is open: its last attempt ended without success."
	case locktable.TaskDone:
		return "It is done."
	case locktable.TaskFailed:
		return "It has failed."
	case locktable.TaskUnknown:
		return "Its claimant was lost, and nobody knows how far it came."
	}
	return "There is no record of it."
}
