package locktable

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/doubledutch-lock/doubledutch/internal/command"
)

// A golden script is a file of testdata. Lines that begin with "#" are for the reader; a line that begins with ">" is a
// step; the lines below a step are what must come of it. Keys are short names, padded to 32 characters. Times are seconds
// of cluster time. A step may hold several commands, parted by ";": they come in one entry.
//
// Events that only repeat the answer to a command of the same step are left out ("> echo on" shows them).

// subject is what a script runs against: a Table, or the naive model.
type subject interface {
	Apply(now Time, cmds []*command.Command) ([]Outcome, []Event)
	Now() Time
	NextDeadline() (Time, bool)
	Lock(name string, limit int) (LockInfo, bool)
	Session(id Key, limit int) (SessionInfo, bool)
	Task(name string) (TaskInfo, bool)
	Stats() Stats
	History(name string, limit int) []PastHold
	Expected(name string) (time.Duration, bool)
	Explain(name string, limit int) Explanation
	Calendar(at Time) (int64, bool)
}

type script struct {
	subject subject
	pause   time.Duration
	echo    bool
	restore func(subject) (subject, error)
	replay  func() error
	onEntry func(now Time, cmds []*command.Command) error
}

// step runs one step and returns its output.
func (s *script) step(line string) (string, error) {
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "advance":
		d, err := time.ParseDuration(rest)
		if err != nil {
			return "", err
		}
		s.pause += d
		return s.entry(nil)
	case "pause":
		d, err := time.ParseDuration(rest)
		s.pause += d
		return "", err
	case "echo":
		s.echo = rest == "on"
		return "", nil
	case "next":
		if at, ok := s.subject.NextDeadline(); ok {
			return "next deadline " + secs(int64(at)) + "\n", nil
		}
		return "no deadline\n", nil
	case "clock":
		return "clock " + secs(int64(s.subject.Now())) + "\n", nil
	case "show":
		return s.show(rest), nil
	case "history", "expect", "explain", "wall":
		return s.look(word, strings.Fields(rest))
	case "stats":
		st := s.subject.Stats()
		history := ""
		if st.History > 0 {
			history = fmt.Sprintf(" history=%d", st.History)
		}
		return fmt.Sprintf("locks=%d held=%d holders=%d waiters=%d sessions=%d spent=%d last-token=%d%s\n",
			st.Locks, st.Held, st.Holders, st.Waiters, st.Sessions, st.Spent, st.LastToken, history) + showTaskStats(st), nil
	case "snapshot-restore":
		n, err := s.restore(s.subject)
		s.subject = n
		return "", err
	case "hash":
		return "same on a server that replays the log\n", s.replay()
	}
	var cmds []*command.Command
	for _, part := range strings.Split(line, ";") {
		c, err := parseCommand(strings.Fields(part))
		if err != nil {
			return "", err
		}
		cmds = append(cmds, c)
	}
	return s.entry(cmds)
}

func (s *script) entry(cmds []*command.Command) (string, error) {
	now := s.subject.Now() + Time(s.pause)
	s.pause = 0
	outs, events := s.subject.Apply(now, cmds)
	var b strings.Builder
	for _, o := range outs {
		b.WriteString(showOutcome(o))
	}
	for _, e := range events {
		if s.echo || !repeats(e, cmds, outs) {
			b.WriteString("event: " + showEvent(e))
		}
	}
	if s.onEntry == nil {
		return b.String(), nil
	}
	return b.String(), s.onEntry(now, cmds)
}

// repeats tells whether e says no more than the answer to one of cmds.
func repeats(e Event, cmds []*command.Command, outs []Outcome) bool {
	same := map[Code]EventKind{Granted: EventGranted, Waiting: EventQueued, Released: EventReleased}
	for i, c := range cmds {
		if repeatsTask(e, c, outs[i]) {
			return true
		}
		key := c.GetAcquire().GetKey() + c.GetRelease().GetKey()
		if key == e.Key.Reveal() && (same[outs[i].Code] == e.Kind || outs[i].Code == Released && e.Kind == EventCancelled) {
			return true
		}
	}
	return false
}

func pad(name string) string {
	if bare, ok := strings.CutPrefix(name, "!"); ok || name == "" {
		return bare
	}
	return name + strings.Repeat("x", KeyLen-len(name))
}

func unpad(k Key) string { return strings.TrimRight(k.Reveal(), "x") }

// parseCommand reads one command: a verb, then its words, then name=value pairs.
func parseCommand(f []string) (*command.Command, error) {
	if len(f) == 0 {
		return nil, errors.New("empty command")
	}
	verb := f[0]
	if verb == "session" || verb == "task" {
		verb, f = verb+" "+f[1], f[1:]
	}
	var words []string
	opt := map[string]string{}
	for _, w := range f[1:] {
		if k, v, ok := strings.Cut(w, "="); ok {
			opt[k] = v
		} else {
			words = append(words, w)
		}
	}
	word := func(i int) string {
		if i < len(words) {
			return strings.ReplaceAll(words[i], "~", " ")
		}
		return ""
	}
	p := &options{opt: opt}
	c := p.command(verb, word)
	if c == nil {
		p.err = fmt.Errorf("unknown command %q", verb)
	}
	for k := range opt {
		p.err = errors.Join(p.err, fmt.Errorf("unknown option %q", k))
	}
	return c, p.err
}

type options struct {
	opt map[string]string
	err error
}

func (p *options) take(name string) string {
	v := p.opt[name]
	delete(p.opt, name)
	return v
}

func (p *options) number(name string) uint64 {
	v := p.take(name)
	if v == "" {
		return 0
	}
	n, err := strconv.ParseUint(v, 10, 64)
	p.err = errors.Join(p.err, err)
	return n
}

// seconds reads a number of seconds, or a Go duration.
func (p *options) seconds(name string) int64 {
	v := p.take(name)
	if v == "" {
		return 0
	}
	d, err := time.ParseDuration(v)
	if err != nil {
		d, err = time.ParseDuration(v + "s")
	}
	p.err = errors.Join(p.err, err)
	return int64(d)
}

func (p *options) command(verb string, word func(int) string) *command.Command {
	switch verb {
	case "acquire":
		a := &command.Acquire{
			Key: pad(word(0)), Name: word(1), Session: pad(p.take("session")), Ttl: p.seconds("ttl"), Wait: p.seconds("wait"),
			Slots: uint32(p.number("slots")), Owner: p.take("owner"), Metadata: p.take("metadata"), LockDelay: p.seconds("lock-delay"),
			Attachment: p.number("via"), Request: p.number("request"),
		}
		if word(2) == "shared" {
			a.Mode = Shared
		}
		a.Set = p.members(p.take("set"))
		return command.FromAcquire(a)
	case "release":
		return command.FromRelease(&command.Release{
			Key: pad(word(0)), Name: word(1), Session: pad(p.take("session")), Request: p.number("request"),
		})
	case "renew":
		return command.FromRenew(&command.Renew{
			Key: pad(word(0)), Name: word(1), Ttl: p.seconds("ttl"), Session: pad(p.take("session")), Request: p.number("request"),
		})
	case "abandon":
		return command.FromAbandon(&command.Abandon{Key: pad(word(0)), Attachment: p.number("via")})
	case "poll":
		var keys []string
		for i := 0; word(i) != ""; i++ {
			keys = append(keys, pad(word(i)))
		}
		return command.FromPoll(&command.Poll{Keys: keys})
	case "session open":
		return command.FromOpenSession(&command.OpenSession{
			Id: pad(word(0)), Ttl: p.seconds("ttl"), Owner: p.take("owner"), Metadata: p.take("metadata"),
		})
	case "session renew":
		return command.FromRenewSession(&command.RenewSession{Id: pad(word(0)), Ttl: p.seconds("ttl"), Request: p.number("request")})
	case "session end":
		return command.FromEndSession(&command.EndSession{Id: pad(word(0))})
	case "raise":
		version, _ := strconv.Atoi(word(0))
		return command.FromRaise(&command.Raise{Version: uint32(version)})
	case "configure":
		return command.FromConfigure(&command.Configure{Settings: p.settings()})
	}
	if c := p.careCommand(verb, word); c != nil {
		return c
	}
	return p.taskCommand(verb, word)
}

// members reads the locks of a set: names parted by commas, each with ":shared" or ":" and a number of slots behind it, if any.
func (p *options) members(text string) []*command.SetMember {
	if text == "" {
		return nil
	}
	var out []*command.SetMember
	for _, part := range strings.Split(text, ",") {
		name, kind, _ := strings.Cut(part, ":")
		m := &command.SetMember{Name: name}
		switch kind {
		case "":
		case "shared":
			m.Mode = Shared
		default:
			n, err := strconv.ParseUint(kind, 10, 32)
			p.err = errors.Join(p.err, err)
			m.Slots = uint32(n)
		}
		out = append(out, m)
	}
	return out
}

// settings are the defaults with what the script changes.
func (p *options) settings() *command.Settings {
	s := proto.CloneOf(testSettings())
	for name, f := range map[string]*int64{
		"max-ttl": &s.MaxTtl, "max-wait": &s.MaxWait, "max-lock-delay": &s.MaxLockDelay, "grace": &s.WaiterGrace,
		"spent-retention": &s.SpentRetention, "history-retention": &s.HistoryRetention,
	} {
		if _, ok := p.opt[name]; ok {
			*f = p.seconds(name)
		}
	}
	for name, f := range map[string]*uint32{
		"max-spent": &s.MaxSpent, "max-locks": &s.MaxLocks, "max-waiters": &s.MaxWaitersPerLock, "max-sessions": &s.MaxSessions,
		"max-keys": &s.MaxKeysPerSession, "max-replies": &s.MaxRepliesPerSession, "max-name": &s.MaxName, "max-owner": &s.MaxOwner,
		"max-metadata": &s.MaxMetadata, "max-slots": &s.MaxSlots, "max-holders": &s.MaxHoldersPerLock, "max-claims": &s.MaxClaims,
		"max-set": &s.MaxSet, "max-result": &s.MaxResult, "max-history": &s.MaxHistory, "max-history-per-lock": &s.MaxHistoryPerLock,
		"max-tasks": &s.MaxTasks,
	} {
		if _, ok := p.opt[name]; ok {
			*f = uint32(p.number(name))
		}
	}
	if _, ok := p.opt["max-text"]; ok {
		s.MaxTextBytes = p.number("max-text")
	}
	return s
}

// testSettings are the settings that scripts start with, written out so that a change of the defaults changes no script.
func testSettings() *command.Settings {
	h := int64(time.Hour)
	return &command.Settings{
		MaxTtl: 24 * h, MaxWait: h, MaxLockDelay: h, WaiterGrace: int64(time.Minute), SpentRetention: h, MaxSpent: 1000,
		MaxLocks: 1000, MaxWaitersPerLock: 100, MaxSessions: 100, MaxKeysPerSession: 100, MaxRepliesPerSession: 16, MaxName: 512,
		MaxOwner: 256, MaxMetadata: 1024, MaxSlots: 1000, MaxHoldersPerLock: 100, MaxClaims: 1000, MaxTextBytes: 1 << 20,
	}
}

// snapshotRestore writes t out and reads it back, and insists on the same state.
func snapshotRestore(t *Table) (*Table, error) {
	data, err := snapshotBytes(t, 3)
	if err != nil {
		return nil, err
	}
	n, err := Restore(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	if n.Hash() != t.Hash() {
		return nil, errors.New("the restored table has another hash")
	}
	return n, n.CheckInvariants()
}

func snapshotBytes(t *Table, chunk int) ([]byte, error) {
	s := t.Snapshot()
	defer s.Close()
	var all []byte
	for {
		b, err := s.Next(chunk)
		all = append(all, b...)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// newTable returns an empty table of the newest level.
func newTable(s *command.Settings) *Table {
	t := New(s)
	t.level = command.Version
	return t
}
