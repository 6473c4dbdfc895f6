package locktable

import (
	"fmt"
	"slices"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
)

// judge checks the promises S1, S3, S4, S5, S8, S9, S10, S11 and S12 on what a table says: commands, outcomes and events. It
// knows neither the table's nor the model's state, only the history.
type judge struct {
	now, before Time // clock of this entry and of the one before
	lastToken   uint64
	live        map[jKey]*jHold
	queues      map[string][]Key
	place       map[jKey]*jPlace
	sessionOf   map[Key]string
	sessions    map[string]*jSession
	opening     map[string]Time // sessions that this entry opens
	spent       []jSpent
	retention   time.Duration
	maxSpent    int
	grants      int // how often each kind of thing was seen, so that a run can show that it saw enough
	reentrant   int
	expired     int
	timedOut    int
	cancelled   int
	duplicates  int
	setGrants   int
	setWaits    int
	deadlocks   int
	jCare
	jTasks
}

type jHold struct {
	lock     string
	mode     Mode
	slots    uint32
	token    uint64
	deadline Time
	since    Time
	session  string
	set      int
}

type jPlace struct {
	session   string
	lock      string
	waitUntil Time
	mode      Mode
	slots     uint32
	set       int
}

type jSession struct{ deadline Time }

type jSpent struct {
	key Key
	at  Time
}

func newJudge(s *command.Settings) *judge {
	j := &judge{
		live: map[jKey]*jHold{}, queues: map[string][]Key{}, place: map[jKey]*jPlace{}, sessionOf: map[Key]string{},
		sessions: map[string]*jSession{}, retention: time.Duration(Never), maxSpent: 1 << 30,
		jTasks: jTasks{tasks: map[string]*jTask{}, claims: map[Key]*command.ClaimTask{}},
	}
	j.settings(s)
	j.newCare(s)
	return j
}

// settings notes the smallest memory for spent keys that ever was set: what must be remembered even so.
func (j *judge) settings(s *command.Settings) {
	j.retention, j.maxSpent = min(j.retention, time.Duration(s.GetSpentRetention())), min(j.maxSpent, int(s.GetMaxSpent()))
}

// entry judges one entry.
func (j *judge) entry(now Time, cmds []*command.Command, outs []Outcome, events []Event) error {
	j.before = j.now
	j.now = max(j.now, now)
	j.announce(cmds, outs)
	for i, c := range cmds {
		if c.GetEndSession() != nil && outs[i].Code == Ended {
			j.spend(Key{}) // the id of the session
		}
	}
	for _, e := range events {
		if err := j.event(e, cmds); err != nil {
			return fmt.Errorf("event %q: %w", showEvent(e), err)
		}
	}
	for i, c := range cmds {
		if outs[i].Now != j.now {
			return fmt.Errorf("the outcome's clock is %d, not %d", outs[i].Now, j.now)
		}
		if err := j.outcome(c, outs[i], events); err != nil {
			return fmt.Errorf("%v: %q: %w", c, showOutcome(outs[i]), err)
		}
	}
	if len(cmds) == 1 && outs[0].Code == Deadlock {
		if err := j.refused(cmds[0].GetAcquire(), outs[0]); err != nil {
			return fmt.Errorf("%v: %q: %w", cmds[0], showOutcome(outs[0]), err)
		}
	}
	if err := j.deadSessions(); err != nil {
		return err
	}
	if err := j.allOrNothing(); err != nil {
		return err
	}
	if err := j.progress(); err != nil {
		return err
	}
	if err := j.careCommands(cmds, outs); err != nil {
		return err
	}
	return j.exclusion()
}

// announce notes what the entry's commands say about keys and sessions before its events are judged.
func (j *judge) announce(cmds []*command.Command, outs []Outcome) {
	j.opening = map[string]Time{}
	for i, c := range cmds {
		if c.GetConfigure() != nil && outs[i].Code == Done {
			j.settings(c.GetConfigure().GetSettings()) // what they let go may come back in this entry already
		}
		if a := c.GetAcquire(); a != nil {
			k, ok := ParseKey(a.GetKey())
			if !ok || outs[i].Code == Invalid {
				continue
			}
			if outs[i].Code == Granted || outs[i].Code == Waiting {
				j.sessionOf[k] = a.GetSession()
			}
		}
		j.announceClaim(c.GetClaimTask(), outs[i])
		if o := c.GetOpenSession(); o != nil && outs[i].Code == Opened {
			j.opening[o.GetId()] = outs[i].Deadline
			if j.sessionOwners[o.GetId()] == nil {
				j.sessionOwners[o.GetId()] = map[string]bool{}
			}
			j.sessionOwners[o.GetId()][o.GetOwner()] = true
		}
	}
}

func (j *judge) event(e Event, cmds []*command.Command) error {
	if e.Task != nil || e.Kind >= EventTaskClaimed {
		return j.taskEvent(e, cmds)
	}
	switch e.Kind {
	case EventQueued:
		j.queued(e)
		j.owners[e.Key] = e.Owner
		j.place[jKey{e.Key, e.Lock}] = &jPlace{
			lock: e.Lock, waitUntil: Never, session: j.sessionOf[e.Key], mode: e.Mode, slots: e.Slots, set: e.Set,
		}
		return nil
	case EventGranted:
		return j.granted(e, cmds)
	case EventReleased, EventExpired, EventBroken, EventHandedOver:
		return j.ended(e, cmds)
	case EventAsked:
		return j.askedOf(e)
	case EventCancelled, EventTimedOut:
		return j.left(e, cmds)
	case EventSuperseded:
		if j.place[jKey{e.Key, e.Lock}] == nil {
			return fmt.Errorf("S10: a key was superseded that has no place")
		}
		return nil
	case EventSessionExpired:
		s := j.sessions[e.Key.Reveal()]
		if s == nil || s.deadline > j.now {
			return fmt.Errorf("S5: the session was alive")
		}
		delete(j.sessions, e.Key.Reveal())
		j.spend(e.Key)
		return nil
	}
	return fmt.Errorf("unknown kind")
}

// alive tells whether the session of a waiting key, if it is a shared one, has yet to end.
func (j *judge) alive(k jKey) bool {
	s := j.sessions[j.place[k].session]
	return s == nil || s.deadline > j.now
}

func (j *judge) granted(e Event, cmds []*command.Command) error {
	j.grants++
	me := jKey{e.Key, e.Lock}
	if j.live[me] != nil {
		return fmt.Errorf("S10: granted although it held already")
	}
	if err := j.tokenRises(e); err != nil {
		return err
	}
	successor := j.successor(e)
	if by, ok := j.handed[e.Lock]; ok && !successor {
		return fmt.Errorf("handed over to %q, granted to %q", by, e.Owner)
	}
	delete(j.handed, e.Lock)
	reentrant := e.Token < j.lastToken || e.Token == j.lastToken && j.tokenLive(e.Lock, e.Token)
	q := j.queues[e.Lock]
	at := slices.Index(q, e.Key)
	switch {
	case at > 0 && successor:
		j.queues[e.Lock] = slices.Delete(slices.Clone(q), at, at+1)
	case at > 0 && !reentrant && slices.ContainsFunc(q[:at], func(k Key) bool { return j.alive(jKey{k, e.Lock}) }):
		return fmt.Errorf("S8: granted from position %d", at+1)
	case at >= 0 && !j.alive(me):
		return fmt.Errorf("S11: granted to a dead session")
	case at < 0 && len(q) > 0 && !reentrant:
		return fmt.Errorf("S8: barged past %d waiters", len(q))
	case at < 0 && !acquiredBy(cmds, e.Key):
		return fmt.Errorf("S9: granted to a key that neither waited nor asked")
	case at >= 0:
		if p := j.place[me]; p.waitUntil <= j.before {
			return fmt.Errorf("S9: granted after its wait had ended")
		}
		if e.Set > 0 {
			j.setWaits++
		}
		j.queues[e.Lock] = slices.Delete(slices.Clone(q), at, at+1)
	}
	if e.Set > 0 {
		j.setGrants++
	}
	session := j.sessionOf[e.Key]
	if p := j.place[me]; p != nil {
		session = p.session
	}
	if session != "" && j.sessions[session] == nil && j.opening[session] == 0 {
		return fmt.Errorf("S11: granted to a dead session")
	}
	if j.stillSpent(e.Key) {
		return fmt.Errorf("S10: a spent key was granted")
	}
	j.lastToken = max(j.lastToken, e.Token)
	delete(j.place, me)
	j.live[me] = &jHold{e.Lock, e.Mode, e.Slots, e.Token, e.Deadline, j.now, session, e.Set}
	j.begun(e)
	return j.exclusion()
}

func (j *judge) tokenLive(lock string, token uint64) bool {
	for _, h := range j.live {
		if h.lock == lock && h.token == token {
			return true
		}
	}
	return false
}

// tokenRises checks S3: a new token, or that of the same session's present hold.
func (j *judge) tokenRises(e Event) error {
	if e.Token > j.lastToken {
		return nil
	}
	session := j.sessionOf[e.Key]
	if p := j.place[jKey{e.Key, e.Lock}]; p != nil {
		session = p.session
	}
	if h := j.holdOf(e.Key); h != nil && h.set > 1 && h.set == e.Set && h.token == e.Token && e.Token == j.lastToken {
		return nil // another lock of the set
	}
	for _, h := range j.live {
		if h.lock == e.Lock && h.token == e.Token && h.mode == e.Mode && h.session != "" && h.session == session {
			j.reentrant++
			return nil
		}
	}
	return fmt.Errorf("S3: token %d after %d", e.Token, j.lastToken)
}

func acquiredBy(cmds []*command.Command, k Key) bool {
	return slices.ContainsFunc(cmds, func(c *command.Command) bool { return c.GetAcquire().GetKey() == k.Reveal() })
}

// ended checks that a hold ends for a reason: its time, or a command that may end it.
func (j *judge) ended(e Event, cmds []*command.Command) error {
	me := jKey{e.Key, e.Lock}
	h := j.live[me]
	if h == nil || h.lock != e.Lock || h.token != e.Token {
		return fmt.Errorf("S4: ended a hold that did not exist")
	}
	if e.HeldFor != j.now.Sub(h.since) {
		return fmt.Errorf("held for %d, not %d", e.HeldFor, j.now.Sub(h.since))
	}
	delete(j.live, me)
	session := h.session
	if e.Kind == EventBroken || e.Kind == EventHandedOver {
		j.spend(e.Key)
		j.over(e, true)
		return j.ordered(e, h, cmds)
	}
	if e.Kind == EventExpired {
		j.over(e, true)
		j.expired++
		if d := j.deadlineOf(h, session); d > j.now {
			return fmt.Errorf("S5: expired %d ns early", d-j.now)
		}
		j.spend(e.Key)
		return nil
	}
	byRelease, byAbandon := j.releasedBy(cmds, e.Key, e.Lock, session, h.set)
	if !byRelease && !byAbandon {
		return fmt.Errorf("S4: released by nobody")
	}
	if byRelease && !byAbandon {
		j.spend(e.Key)
	}
	j.over(e, !byAbandon)
	return nil
}

func (j *judge) deadlineOf(h *jHold, session string) Time {
	if session == "" {
		return h.deadline
	}
	if s := j.sessions[session]; s != nil {
		return s.deadline
	}
	return 0
}

func (j *judge) releasedBy(cmds []*command.Command, k Key, lock, session string, set int) (release, abandon bool) {
	for _, c := range cmds {
		key := k.Reveal()
		r, e := c.GetRelease(), c.GetEndSession()
		release = release || r != nil && r.GetKey() == key && (r.GetName() == lock || r.GetName() == "" || set > 0) ||
			e != nil && (e.GetId() == key && session == "" || e.GetId() == session && session != "")
		abandon = abandon || c.GetAbandon().GetKey() == key && c.GetAbandon().GetAttachment() != 0
	}
	return release, abandon
}

func (j *judge) left(e Event, cmds []*command.Command) error {
	q := j.queues[e.Lock]
	at := slices.Index(q, e.Key)
	me := jKey{e.Key, e.Lock}
	p := j.place[me]
	if at < 0 || p == nil {
		return fmt.Errorf("it had no place")
	}
	if e.Kind == EventTimedOut {
		j.timedOut++
		if p.waitUntil > j.now && !gaveUp(cmds, e) {
			return fmt.Errorf("timed out early")
		}
		if e.Holder == nil {
			return fmt.Errorf("timed out without a word on the holder")
		}
	} else {
		j.cancelled++
		j.spend(Key{}) // a place given up may have spent its key, which takes room in the memory
	}
	j.queues[e.Lock] = slices.Delete(slices.Clone(q), at, at+1)
	delete(j.place, me)
	return nil
}

// gaveUp tells whether one of cmds asks for the key again without a wait.
func gaveUp(cmds []*command.Command, e Event) bool {
	return slices.ContainsFunc(cmds, func(c *command.Command) bool {
		a := c.GetAcquire()
		return a != nil && a.GetKey() == e.Key.Reveal() && (a.GetName() == e.Lock || e.Set > 0) && a.GetWait() == 0
	})
}
