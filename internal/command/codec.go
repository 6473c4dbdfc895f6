// Package command is the wire and log form of everything that can change a lock table: protobuf messages (command.proto),
// with the version rule that keeps old servers from misreading new logs.
package command

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Bounds of one entry. An entry beyond them is never written by a server and is refused when read.
const (
	MaxCommandsPerEntry = 1024
	MaxEntryBytes       = 8 << 20
)

// ErrNotUnderstood marks an entry that was written by a newer server, or is no entry at all. It must never be skipped: a
// server that skips what others apply disagrees with them from then on.
var ErrNotUnderstood = errors.New("log entry not understood")

// Encode returns the bytes of e. It fails if a string is not valid UTF-8; Check tells beforehand which command that is.
func Encode(e *Entry) ([]byte, error) {
	out, err := proto.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encode entry: %w", err)
	}
	return out, nil
}

var (
	errUnknownCommand = errors.New("is of a kind that this server does not know")
	errUnknownField   = errors.New("has a field that this server does not know")
)

// checkKnown tells whether every part of c is known to this version.
func checkKnown(c *Command) error {
	m := opMessage(c)
	if m == nil {
		return errUnknownCommand
	}
	if len(c.ProtoReflect().GetUnknown()) > 0 || len(m.GetUnknown()) > 0 {
		return errUnknownField
	}
	for _, m := range c.GetAcquire().GetSet() {
		if len(m.ProtoReflect().GetUnknown()) > 0 {
			return errUnknownField
		}
	}
	if s := c.GetConfigure().GetSettings(); s != nil && len(s.ProtoReflect().GetUnknown()) > 0 {
		return errUnknownField
	}
	for _, s := range c.GetAcquire().GetSet() {
		if len(s.ProtoReflect().GetUnknown()) > 0 {
			return errUnknownField
		}
	}
	return nil
}

// opMessage returns the command inside the envelope, or nil if there is none.
func opMessage(c *Command) protoreflect.Message {
	switch op := c.GetOp().(type) {
	case *Command_Acquire:
		return op.Acquire.ProtoReflect()
	case *Command_Release:
		return op.Release.ProtoReflect()
	case *Command_Renew:
		return op.Renew.ProtoReflect()
	case *Command_Abandon:
		return op.Abandon.ProtoReflect()
	case *Command_Poll:
		return op.Poll.ProtoReflect()
	case *Command_OpenSession:
		return op.OpenSession.ProtoReflect()
	case *Command_RenewSession:
		return op.RenewSession.ProtoReflect()
	case *Command_EndSession:
		return op.EndSession.ProtoReflect()
	case *Command_Configure:
		return op.Configure.ProtoReflect()
	case *Command_Raise:
		return op.Raise.ProtoReflect()
	case *Command_ClaimTask:
		return op.ClaimTask.ProtoReflect()
	case *Command_FinishTask:
		return op.FinishTask.ProtoReflect()
	case *Command_RenewTask:
		return op.RenewTask.ProtoReflect()
	case *Command_ForgetTask:
		return op.ForgetTask.ProtoReflect()
	case *Command_SettleTask:
		return op.SettleTask.ProtoReflect()
	case *Command_Ask:
		return op.Ask.ProtoReflect()
	case *Command_Break:
		return op.Break.ProtoReflect()
	case *Command_HandOver:
		return op.HandOver.ProtoReflect()
	case *Command_Calendar:
		return op.Calendar.ProtoReflect()
	}
	return nil
}

// Check tells whether c can be written: it has an operation and all its strings are valid UTF-8.
func Check(c *Command) error {
	if c.GetOp() == nil {
		return errUnknownCommand
	}
	if !validTexts(c) {
		return errors.New("a text is not valid UTF-8")
	}
	return nil
}

func validTexts(c *Command) bool {
	switch op := c.GetOp().(type) {
	case *Command_Acquire:
		a := op.Acquire
		for _, m := range a.GetSet() {
			if !valid(m.GetName()) {
				return false
			}
		}
		return valid(a.GetName(), a.GetKey(), a.GetSession(), a.GetOwner(), a.GetMetadata())
	case *Command_Release:
		return valid(op.Release.GetName(), op.Release.GetKey(), op.Release.GetSession())
	case *Command_Renew:
		return valid(op.Renew.GetName(), op.Renew.GetKey(), op.Renew.GetSession())
	case *Command_Abandon:
		return valid(op.Abandon.GetKey())
	case *Command_Poll:
		return valid(op.Poll.GetKeys()...)
	case *Command_OpenSession:
		return valid(op.OpenSession.GetId(), op.OpenSession.GetOwner(), op.OpenSession.GetMetadata())
	case *Command_RenewSession:
		return valid(op.RenewSession.GetId())
	case *Command_EndSession:
		return valid(op.EndSession.GetId())
	}
	return validTexts2(c)
}

// validTexts2 is validTexts for the commands of version 2.
func validTexts2(c *Command) bool {
	switch op := c.GetOp().(type) {
	case *Command_ClaimTask:
		t := op.ClaimTask
		return valid(t.GetName(), t.GetKey(), t.GetSession(), t.GetOwner(), t.GetMetadata())
	case *Command_FinishTask:
		return valid(op.FinishTask.GetName(), op.FinishTask.GetKey(), op.FinishTask.GetText(), op.FinishTask.GetSession())
	case *Command_RenewTask:
		return valid(op.RenewTask.GetName(), op.RenewTask.GetKey(), op.RenewTask.GetProgress(), op.RenewTask.GetSession())
	case *Command_ForgetTask:
		return valid(op.ForgetTask.GetName())
	case *Command_SettleTask:
		return valid(op.SettleTask.GetName(), op.SettleTask.GetText())
	case *Command_Ask:
		return valid(op.Ask.GetName(), op.Ask.GetOwner(), op.Ask.GetReason())
	case *Command_Break:
		return valid(op.Break.GetName(), op.Break.GetOwner(), op.Break.GetReason())
	case *Command_HandOver:
		return valid(op.HandOver.GetName(), op.HandOver.GetKey(), op.HandOver.GetTo(), op.HandOver.GetSession())
	}
	return true
}

func valid(texts ...string) bool {
	for _, s := range texts {
		if !utf8.ValidString(s) {
			return false
		}
	}
	return true
}

// FromAcquire and its siblings put a command into its envelope.
func FromAcquire(a *Acquire) *Command {
	var c struct { // at once, since this and the next are what every lock takes
		command Command
		op      Command_Acquire
	}
	c.op.Acquire = a
	c.command.Op = &c.op
	return &c.command
}

// FromRelease wraps r.
func FromRelease(r *Release) *Command {
	var c struct {
		command Command
		op      Command_Release
	}
	c.op.Release = r
	c.command.Op = &c.op
	return &c.command
}

// FromRenew wraps r.
func FromRenew(r *Renew) *Command { return &Command{Op: &Command_Renew{Renew: r}} }

// FromAbandon wraps a.
func FromAbandon(a *Abandon) *Command { return &Command{Op: &Command_Abandon{Abandon: a}} }

// FromPoll wraps p.
func FromPoll(p *Poll) *Command { return &Command{Op: &Command_Poll{Poll: p}} }

// FromOpenSession wraps o.
func FromOpenSession(o *OpenSession) *Command {
	return &Command{Op: &Command_OpenSession{OpenSession: o}}
}

// FromRenewSession wraps r.
func FromRenewSession(r *RenewSession) *Command {
	return &Command{Op: &Command_RenewSession{RenewSession: r}}
}

// FromEndSession wraps e.
func FromEndSession(e *EndSession) *Command { return &Command{Op: &Command_EndSession{EndSession: e}} }

// FromConfigure wraps c.
func FromConfigure(c *Configure) *Command { return &Command{Op: &Command_Configure{Configure: c}} }

// FromRaise wraps r.
func FromRaise(r *Raise) *Command { return &Command{Op: &Command_Raise{Raise: r}} }

// FromClaimTask wraps c.
func FromClaimTask(c *ClaimTask) *Command { return &Command{Op: &Command_ClaimTask{ClaimTask: c}} }

// FromFinishTask wraps f.
func FromFinishTask(f *FinishTask) *Command { return &Command{Op: &Command_FinishTask{FinishTask: f}} }

// FromRenewTask wraps r.
func FromRenewTask(r *RenewTask) *Command { return &Command{Op: &Command_RenewTask{RenewTask: r}} }

// FromForgetTask wraps f.
func FromForgetTask(f *ForgetTask) *Command { return &Command{Op: &Command_ForgetTask{ForgetTask: f}} }

// FromSettleTask wraps s.
func FromSettleTask(s *SettleTask) *Command { return &Command{Op: &Command_SettleTask{SettleTask: s}} }

// FromAsk wraps a.
func FromAsk(a *Ask) *Command { return &Command{Op: &Command_Ask{Ask: a}} }

// FromBreak wraps b.
func FromBreak(b *Break) *Command { return &Command{Op: &Command_Break{Break: b}} }

// FromHandOver wraps h.
func FromHandOver(h *HandOver) *Command { return &Command{Op: &Command_HandOver{HandOver: h}} }

// FromCalendar wraps c.
func FromCalendar(c *Calendar) *Command { return &Command{Op: &Command_Calendar{Calendar: c}} }
