package locktable

import (
	"strings"
	"time"
)

// HolderInfo tells about one hold. There is no key in it.
type HolderInfo struct {
	Owner, Metadata string
	Mode            Mode
	Slots           uint32
	Token           uint64
	Since, Deadline Time
	TTL             time.Duration
	Set             int // how many locks the hold is on, if it is that of a set
}

// WaiterInfo tells about one place in a queue. There is no key in it.
type WaiterInfo struct {
	Owner, Metadata string
	Mode            Mode
	Position        int
	Since           Time
	WaitUntil       Time // Never: as long as the client is there
	Set             int  // on how many locks it waits, if it is the place of a set
	// How long it may take yet, from how long the lock was held before; 0: not known.
	Expected time.Duration
}

// LockInfo tells about one lock.
type LockInfo struct {
	Name                   string
	Slots                  uint32
	BlockedUntil           Time // 0: not blocked by a delay
	Holders                []HolderInfo
	Waiters                []WaiterInfo
	NumHolders, NumWaiters int
	// What the holders are asked, or nil.
	Ask *AskInfo
	// How long one who joins the queue now may wait, from how long the lock was held before; 0: not known.
	Expected time.Duration
}

// KeyInfo tells the owner of a session about one of its keys. Of a set, Lock, Mode and Slots are those of the first lock, and
// Position is the worst one.
type KeyInfo struct {
	Lock            string
	Names           []string // of a set: its locks, in order
	Held            bool
	Token           uint64
	Mode            Mode
	Slots           uint32
	Since, Deadline Time
	TTL             time.Duration
	Position        int
	Attachment      uint64
	// The key stands for a claim on the task Lock, or a place among those who wait for it.
	Task bool
	// Of a place: how long it may take yet; 0: not known. Of a hold: what its lock's holders are asked, or nil.
	Expected time.Duration
	Ask      *AskInfo
}

// SessionInfo tells the owner of a session about it.
type SessionInfo struct {
	Private          bool
	TTL              time.Duration
	Deadline, Opened Time
	Owner, Metadata  string
	Keys             []KeyInfo // the oldest, up to the limit that was asked for
	NumKeys          int
}

// Stats counts what is in the table.
type Stats struct {
	// Locks that are known: held, waited for or blocked by a delay.
	Locks int
	// Held locks, and the holds on them (shared and counted holds are several).
	Held, Holders int
	Waiters       int
	// Records of tasks, the tasks that run, and who waits for a task.
	Tasks, Running, TaskWaiters int
	// Shared sessions.
	Sessions int
	Spent    int
	// Past holds that are remembered.
	History   int
	LastToken uint64
}

// Stats returns the present counts. It takes constant time.
func (t *Table) Stats() Stats {
	s := t.counts
	s.Locks, s.Sessions, s.Spent, s.LastToken = t.locks.Len(), t.sessions.Len(), t.spent.n, t.lastToken
	s.History, s.Tasks = t.past.n, t.tasks.Len()
	return s
}

// Lock describes the lock of that name, with at most limit holders and limit waiters, or returns false if nobody knows it.
func (t *Table) Lock(name string, limit int) (LockInfo, bool) {
	l := t.lockNamed(name)
	if l == nil {
		return LockInfo{}, false
	}
	return t.lockInfo(l, limit), true
}

// Locks describes up to limit locks whose names begin with prefix and come after the name after, in the byte order of
// names, each with at most perLock holders and waiters.
func (t *Table) Locks(prefix, after string, limit, perLock int) []LockInfo {
	var out []LockInfo
	t.locks.Ascend(max(prefix, after), func(name string, l *lock) bool {
		if len(out) >= limit || !strings.HasPrefix(name, prefix) {
			return false
		}
		if name > after {
			out = append(out, t.lockInfo(l, perLock))
		}
		return true
	})
	return out
}

// Newest returns the greatest token of the holds on the lock of that name that last beyond now, or 0 if there is none.
func (t *Table) Newest(name string, now Time) (token uint64) {
	l := t.lockNamed(name)
	if l == nil {
		return 0
	}
	for c := l.holders.head; c != nil; c = c.next {
		if _, deadline := c.lease(); deadline > now {
			token = max(token, c.token)
		}
	}
	return token
}

func (t *Table) lockInfo(l *lock, limit int) LockInfo {
	i := LockInfo{Name: l.name, Slots: l.slots, NumHolders: l.holders.len(), NumWaiters: l.waiters.len()}
	i.Ask, i.Expected = t.askOf(l), t.expected(l.name)
	if l.block != nil {
		i.BlockedUntil = l.block.until
	}
	for c := l.holders.head; c != nil && len(i.Holders) < limit; c = c.next {
		i.Holders = append(i.Holders, t.holderInfo(c))
	}
	for c := l.waiters.head; c != nil && len(i.Waiters) < limit; c = c.next {
		w := t.waiterInfo(c, len(i.Waiters)+1)
		w.Expected = t.expect(l, w.Position)
		i.Waiters = append(i.Waiters, w)
	}
	return i
}

func (t *Table) holderInfo(c *claim) HolderInfo {
	x := c.details()
	h := HolderInfo{
		Owner: t.ownerTold(c), Metadata: x.metadata, Mode: c.modeOf(), Slots: c.lock.slots, Token: c.token, Since: c.since,
		Set: c.setSize(),
	}
	h.TTL, h.Deadline = c.lease()
	return h
}

func (t *Table) waiterInfo(c *claim, position int) WaiterInfo {
	x := c.details()
	return WaiterInfo{
		Owner: t.ownerTold(c), Metadata: x.metadata, Mode: c.modeOf(), Position: position, Since: c.since, WaitUntil: x.until,
		Set: c.setSize(),
	}
}

// Key describes what a key stands for, or returns false if it stands for nothing.
func (t *Table) Key(k Key) (KeyInfo, bool) {
	c := t.keys.get(k)
	if c == nil {
		return KeyInfo{}, false
	}
	return t.keyInfo(c), true
}

func (t *Table) keyInfo(c *claim) KeyInfo {
	i := KeyInfo{Lock: c.lock.name, Held: !c.waiting(), Token: c.token, Mode: c.modeOf(), Slots: c.lock.slots, Since: c.since}
	if set := c.set(); set != nil {
		i.Names = set.names()
	}
	i.Attachment, i.Task = c.attachment, c.lock.isTask
	i.TTL, i.Deadline = c.lease()
	if c.waiting() {
		i.Deadline, i.Position = c.extra.until, c.position()
		i.Expected = t.expectPlace(c, i.Position)
	} else {
		i.Ask = t.askOfHold(c)
	}
	return i
}

// Session describes the session with that id, shared or private (then the id is the key), with up to limit of its keys, or
// returns false.
func (t *Table) Session(id Key, limit int) (SessionInfo, bool) {
	if s := t.sharedSession(string(id[:])); s != nil {
		i := SessionInfo{TTL: s.ttl, Deadline: s.deadline, Opened: s.opened, Owner: s.owner, Metadata: s.metadata}
		i.NumKeys = s.keys
		for c := s.head; c != nil && len(i.Keys) < limit; c = c.extra.sessionNext {
			if c.lead() == c {
				i.Keys = append(i.Keys, t.keyInfo(c))
			}
		}
		return i, true
	}
	c := t.keys.get(id)
	if c == nil || c.session != nil {
		return SessionInfo{}, false
	}
	x := c.details()
	return SessionInfo{
		Private: true, TTL: c.ttl, Deadline: c.due(), Opened: c.since, Owner: x.owner, Metadata: x.metadata,
		Keys: []KeyInfo{t.keyInfo(c)}, NumKeys: 1,
	}, true
}
