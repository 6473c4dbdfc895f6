package node

import (
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

// Outcomes as they travel between nodes.

func fromWire(w *command.WireOutcome) locktable.Outcome {
	o := locktable.Outcome{
		Code: locktable.Code(w.GetCode()), Mode: w.GetMode(), Slots: w.GetSlots(), Token: w.GetToken(),
		TTL: time.Duration(w.GetTtl()), Deadline: locktable.Time(w.GetDeadline()), Waited: time.Duration(w.GetWaited()),
		Position: int(w.GetPosition()), Released: int(w.GetReleased()), Detail: w.GetDetail(), Now: locktable.Time(w.GetNow()),
		Expected: time.Duration(w.GetExpected()),
	}
	if h := w.GetHolder(); h != nil {
		o.Holder = &locktable.Holder{
			Owner: h.GetOwner(), Metadata: h.GetMetadata(), Mode: h.GetMode(), Token: h.GetToken(),
			Since: locktable.Time(h.GetSince()), Deadline: locktable.Time(h.GetDeadline()),
			Holders: int(h.GetHolders()), Waiters: int(h.GetWaiters()),
		}
	}
	if a := w.GetAsk(); a != nil {
		o.Ask = &locktable.AskInfo{
			Owner: a.GetOwner(), Reason: a.GetReason(), At: locktable.Time(a.GetAt()), Until: locktable.Time(a.GetUntil()),
		}
	}
	if c := w.GetCycle(); len(c) > 0 {
		o.Cycle = &locktable.Chain{}
		for _, x := range c {
			o.Cycle.Waits = append(o.Cycle.Waits, locktable.Wait{
				Owner: x.GetOwner(), Lock: x.GetWaitsFor(), HeldBy: x.GetHeldBy(), Token: x.GetToken(), Queued: x.GetQueued(),
			})
		}
	}
	if t := w.GetTask(); t != nil {
		o.Task = taskFromWire(t)
	}
	return o
}

func taskFromWire(t *command.WireTask) *locktable.TaskInfo {
	return &locktable.TaskInfo{
		Name: t.GetName(), Status: locktable.TaskStatus(t.GetStatus()), Attempts: t.GetAttempts(), MaxAttempts: t.GetMaxAttempts(),
		Token: t.GetToken(), AtMostOnce: t.GetAtMostOnce(), Owner: t.GetOwner(), Metadata: t.GetMetadata(), Text: t.GetText(),
		Progress: t.GetProgress(), Since: locktable.Time(t.GetSince()), Deadline: locktable.Time(t.GetDeadline()),
		TTL: time.Duration(t.GetTtl()), Ended: locktable.Time(t.GetEnded()), KeepUntil: locktable.Time(t.GetKeepUntil()),
		ClaimableAt: locktable.Time(t.GetClaimableAt()), SlotStart: t.GetSlotStart(), SlotEnd: t.GetSlotEnd(),
		Waiters: int(t.GetWaiters()),
	}
}

func toWire(o *locktable.Outcome) *command.WireOutcome {
	w := &command.WireOutcome{
		Code: uint32(o.Code), Mode: o.Mode, Slots: o.Slots, Token: o.Token, Ttl: int64(o.TTL), Deadline: int64(o.Deadline),
		Waited: int64(o.Waited), Position: int64(o.Position), Released: int64(o.Released), Detail: o.Detail, Now: int64(o.Now),
		Expected: int64(o.Expected),
	}
	if h := o.Holder; h != nil {
		w.Holder = &command.WireHolder{
			Owner: h.Owner, Metadata: h.Metadata, Mode: h.Mode, Token: h.Token, Since: int64(h.Since),
			Deadline: int64(h.Deadline), Holders: int64(h.Holders), Waiters: int64(h.Waiters),
		}
	}
	if a := o.Ask; a != nil {
		w.Ask = &command.WireAsk{Owner: a.Owner, Reason: a.Reason, At: int64(a.At), Until: int64(a.Until)}
	}
	if o.Cycle != nil {
		for _, x := range o.Cycle.Waits {
			w.Cycle = append(w.Cycle, &command.WireWait{
				Owner: x.Owner, WaitsFor: x.Lock, HeldBy: x.HeldBy, Token: x.Token, Queued: x.Queued,
			})
		}
	}
	if o.Task != nil {
		w.Task = taskToWire(o.Task)
	}
	return w
}

func taskToWire(t *locktable.TaskInfo) *command.WireTask {
	return &command.WireTask{
		Name: t.Name, Status: uint32(t.Status), Attempts: t.Attempts, MaxAttempts: t.MaxAttempts, Token: t.Token,
		AtMostOnce: t.AtMostOnce, Owner: t.Owner, Metadata: t.Metadata, Text: t.Text, Progress: t.Progress, Since: int64(t.Since),
		Deadline: int64(t.Deadline), Ttl: int64(t.TTL), Ended: int64(t.Ended), KeepUntil: int64(t.KeepUntil),
		ClaimableAt: int64(t.ClaimableAt), SlotStart: t.SlotStart, SlotEnd: t.SlotEnd, Waiters: int64(t.Waiters),
	}
}
