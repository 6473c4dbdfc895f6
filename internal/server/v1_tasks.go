package server

import (
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
	"github.com/doubledutch-lock/doubledutch/internal/schedule"
)

// postTask answers POST /v1/tasks/{name}: a claim. Whatever it finds is an answer of 200 that says how the task stands.
func (s *Server) postTask(c *call) error {
	var body claimBody
	if err := readBody(c, &body, claimMembers); err != nil {
		return err
	}
	a, err := body.command()
	if err != nil {
		return err
	}
	plan, err := body.schedule()
	if err != nil {
		return err
	}
	a.Name = c.params[0]
	if a.Request, err = numberOfNew(c, a.GetSession(), a.GetKey()); err != nil {
		return err
	}
	v := visit{ownKey: a.GetKey() == "", poll: body.poll}
	if err := s.fillIn(c, a.GetSession(), &a.Key, &a.Ttl); err != nil {
		return err
	}
	if err := s.checkClaim(c, a); err != nil {
		return err
	}
	out, err := s.claimSlot(c, a, plan, v)
	if err != nil {
		return err
	}
	return s.answerClaim(c, a, v, &out)
}

func (s *Server) checkClaim(c *call, a *command.ClaimTask) error {
	return s.check(c.lasting(), func(set *command.Settings) error {
		if err := locktable.CheckTaskName(set, a.GetName()); err != nil {
			return fail(CodeInvalidName, sentence(err.Error()))
		}
		if err := locktable.CheckClaimTask(set, a); err != nil {
			return fail(CodeInvalidRequest, sentence(err.Error()))
		}
		return nil
	})
}

func (s *Server) checkTaskName(c *call, name string) error {
	return s.check(c.lasting(), func(set *command.Settings) error {
		if err := locktable.CheckTaskName(set, name); err != nil {
			return fail(CodeInvalidName, sentence(err.Error()))
		}
		return nil
	})
}

// How often a claim is made anew whose slot had passed before it was applied.
const slotTries = 5

// claimSlot makes the claim, for the present slot of the schedule if there is one.
func (s *Server) claimSlot(c *call, a *command.ClaimTask, plan *schedule.Schedule, v visit) (out locktable.Outcome, err error) {
	if plan == nil {
		return s.claimTask(c, a, v)
	}
	for range slotTries {
		at, err := s.calendar(c)
		if err != nil {
			return out, err
		}
		start, end, err := plan.Slot(at)
		if err != nil {
			return out, fail(CodeInvalidRequest, sentence(err.Error()))
		}
		// A new message for each try: the node may still read the last one.
		a = &command.ClaimTask{
			Name: a.GetName(), Key: a.GetKey(), Session: a.GetSession(), Ttl: a.GetTtl(), Wait: a.GetWait(), Keep: a.GetKeep(),
			MaxAttempts: a.GetMaxAttempts(), RetryDelay: a.GetRetryDelay(), AtMostOnce: a.GetAtMostOnce(), AtLeast: a.GetAtLeast(),
			SlotStart: start.UnixNano(), SlotEnd: end.UnixNano(), Owner: a.GetOwner(), Metadata: a.GetMetadata(), Request: a.GetRequest(),
		}
		if out, err = s.claimTask(c, a, v); err != nil || out.Code != locktable.SlotPassed {
			return out, err
		}
	}
	return out, nil
}

// answerClaim tells what came of a claim.
func (s *Server) answerClaim(c *call, a *command.ClaimTask, v visit, out *locktable.Outcome) error {
	switch out.Code {
	case locktable.Granted:
		if out.Task == nil {
			out.Task = s.taskNow(a.GetName())
		}
		c.buf = appendClaim(c.buf[:0], a, out)
		s.deliver(c, a, v, jsonType, c.buf)
		return nil
	case locktable.Waiting:
		return s.answerPlace(c, a, v, out)
	case locktable.NotClaimable:
		if out.Task == nil || out.Task.Status == 0 {
			return refusal(&locktable.Outcome{Code: locktable.NoTask})
		}
		day := s.daytimeSince(out.Now, 0)
		c.buf = append(appendTask(c.buf[:0], out.Task, &day, true), '}')
		return c.json(http.StatusOK)
	}
	return refusal(out)
}

// answerPlace tells one whose claim still waits when it wanted to be told; if the task is over by now, that it is.
func (s *Server) answerPlace(c *call, a *command.ClaimTask, v visit, out *locktable.Outcome) error {
	day := s.daytimeSince(out.Now, 0)
	b := appendTask(c.buf[:0], out.Task, &day, true)
	if out.Task.Status < locktable.TaskDone {
		b = append(b, `,"waiting":true,"key":"`...)
		b = append(b, a.GetKey()...)
		b = append(b, `","position":`...)
		b = strconv.AppendInt(b, int64(out.Position), 10)
		b = appendKept(b, out)
	}
	c.buf = append(b, '}')
	s.deliverPlace(c, a, v, http.StatusOK)
	return nil
}

// taskNow returns the task as this node has it.
func (s *Server) taskNow(name string) *locktable.TaskInfo {
	info := locktable.TaskInfo{Name: name}
	s.backend.ReadStale(func(t *locktable.Table, _ uint64, _ time.Duration) {
		if i, ok := t.Task(name); ok {
			info = i
		}
	})
	return &info
}

// completeTask answers POST /v1/tasks/{name}/complete.
func (s *Server) completeTask(c *call) error {
	out, err := s.finish(c, completeMembers, false)
	if err != nil {
		return err
	}
	if out.Code != locktable.Finished {
		return refusalOfTask(out)
	}
	c.buf = append(c.buf[:0], `{"status":"done"}`...)
	return c.json(http.StatusOK)
}

// failTask answers POST /v1/tasks/{name}/fail.
func (s *Server) failTask(c *call) error {
	out, err := s.finish(c, failMembers, true)
	if err != nil {
		return err
	}
	if out.Code != locktable.Finished {
		return refusalOfTask(out)
	}
	c.buf = append(appendFailed(c.buf[:0], out), '}')
	return c.json(http.StatusOK)
}

func (s *Server) finish(c *call, members []member[finishBody], failed bool) (*locktable.Outcome, error) {
	var body finishBody
	if err := readBody(c, &body, members); err != nil {
		return nil, err
	}
	if body.key == "" {
		return nil, errKeyMissing
	}
	request, err := requestNumber(c, body.session)
	if err != nil {
		return nil, err
	}
	f := &command.FinishTask{Name: c.params[0], Key: body.key, Failed: failed, Text: body.text, Session: body.session, Request: request}
	if err := s.checkTaskName(c, f.GetName()); err != nil {
		return nil, err
	}
	if err := s.checkTaskText(c, members[1].name, body.text); err != nil {
		return nil, err
	}
	out, err := s.propose(c, command.FromFinishTask(f))
	return &out, err
}

func (s *Server) checkTaskText(c *call, field, text string) error {
	return s.check(c.lasting(), func(set *command.Settings) error {
		if err := locktable.CheckTaskText(set, text); err != nil {
			return failField(field, sentence(err.Error()))
		}
		return nil
	})
}

// renewTask answers POST /v1/tasks/{name}/renew.
func (s *Server) renewTask(c *call) error {
	var body renewTaskBody
	if err := readBody(c, &body, renewTaskMembers); err != nil {
		return err
	}
	if body.key == "" {
		return errKeyMissing
	}
	request, err := requestNumber(c, body.session)
	if err != nil {
		return err
	}
	r := &command.RenewTask{Name: c.params[0], Key: body.key, Ttl: int64(body.ttl), Progress: body.progress, Session: body.session, Request: request}
	if err := s.checkTaskName(c, r.GetName()); err != nil {
		return err
	}
	if err := s.checkTaskText(c, "progress", r.GetProgress()); err != nil {
		return err
	}
	if err := s.checkTTL(c, body.ttl); err != nil {
		return err
	}
	out, err := s.propose(c, command.FromRenewTask(r))
	if err != nil {
		return err
	}
	if out.Code != locktable.Renewed {
		return refusalOfTask(&out)
	}
	b := append(c.buf[:0], `{"name":`...)
	b = appendString(b, r.GetName())
	c.buf = append(appendLease(b, &out), '}')
	return c.json(http.StatusOK)
}

// forgetTask answers DELETE /v1/tasks/{name}. Without a token it forgets the record that is there now, unless the task runs; if
// the request has to be repeated inside, it cannot hit a later one.
func (s *Server) forgetTask(c *call) error {
	token, err := tokenParam(c.r.URL.RawQuery)
	if err != nil {
		return err
	}
	name := c.params[0]
	if err := s.checkTaskName(c, name); err != nil {
		return err
	}
	if token == 0 {
		info, _, err := s.readTask(c, name)
		if err != nil {
			return err
		}
		if info.Status == locktable.TaskRunning {
			return fail(CodeTaskChanged, "The task is running; to take the claim away from whoever has it, name its token.")
		}
		token = info.Token
	}
	out, err := s.propose(c, command.FromForgetTask(&command.ForgetTask{Name: name, Token: token}))
	if err != nil {
		return err
	}
	if out.Code != locktable.Done {
		return refusalOfTask(&out)
	}
	c.buf = append(c.buf[:0], `{"forgotten":true}`...)
	return c.json(http.StatusOK)
}

// tokenParam reads the only parameter of a query; 0 if it is not there.
func tokenParam(raw string) (uint64, error) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return 0, fail(CodeInvalidRequest, "The part of the address after the question mark cannot be read.")
	}
	var token uint64
	for name, v := range values {
		switch {
		case name != "token":
			return 0, failField(short(name), "There is no parameter "+quoteShort(name)+" here.")
		case len(v) > 1:
			return 0, failField(name, `The parameter "token" is there more than once.`)
		}
		if token, err = parseToken(v[0]); err != nil {
			return 0, failField(name, "The parameter token "+err.Error()+".")
		}
	}
	return token, nil
}

// settleTask answers POST /v1/tasks/{name}/settle.
func (s *Server) settleTask(c *call) error {
	var body settleBody
	if err := readBody(c, &body, settleMembers); err != nil {
		return err
	}
	if err := body.check(); err != nil {
		return err
	}
	st := &command.SettleTask{Name: c.params[0], Token: body.token, Verdict: body.verdict, Text: body.result + body.error}
	if err := s.checkTaskName(c, st.GetName()); err != nil {
		return err
	}
	field := "result"
	if body.error != "" {
		field = "error"
	}
	if err := s.checkTaskText(c, field, st.GetText()); err != nil {
		return err
	}
	out, err := s.propose(c, command.FromSettleTask(st))
	if err != nil {
		return err
	}
	if out.Code != locktable.Done {
		return refusalOfTask(&out)
	}
	b := append(c.buf[:0], `{"status":"`...)
	b = append(b, settled[body.verdict]...)
	c.buf = append(b, `"}`...)
	return c.json(http.StatusOK)
}

var settled = map[command.TaskVerdict]string{
	command.TaskVerdict_VERDICT_DONE: "done", command.TaskVerdict_VERDICT_FAILED: "failed", command.TaskVerdict_VERDICT_RETRY: "open",
}

// refusalOfTask is refusal, and says how the task stands.
func refusalOfTask(out *locktable.Outcome) error {
	e := asError(refusal(out))
	if t := out.Task; t != nil && (out.Code == locktable.NotClaimant || out.Code == locktable.TaskChanged) {
		e.task = t
		e.Detail += " " + taskSentence(t)
	}
	return e
}
