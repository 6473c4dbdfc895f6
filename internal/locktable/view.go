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
}

// WaiterInfo tells about one place in a queue. There is no key in it.
type WaiterInfo struct {
	Owner, Metadata string
	Mode            Mode
	Position        int
	Since           Time
	WaitUntil       Time // Never: as long as the client is there
}

// LockInfo tells about one lock.
type LockInfo struct {
	Name                   string
	Slots                  uint32
	BlockedUntil           Time // 0: not blocked by a delay
	Holders                []HolderInfo
	Waiters                []WaiterInfo
	NumHolders, NumWaiters int
}

// KeyInfo tells the owner of a session about one of its keys.
type KeyInfo struct {
	Lock            string
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
	Sessions  int
	Spent     int
	LastToken uint64
}

// Stats returns the present counts. It takes constant time.
func (t *Table) Stats() Stats {
	s := t.counts
	s.Locks, s.Sessions, s.Spent, s.LastToken = t.locks.Len(), t.sessions.Len(), t.spent.n, t.lastToken
	s.Tasks = t.tasks.Len()
	return s
}

// Lock describes the lock of that name, with at most limit holders and limit waiters, or returns false if nobody knows it.
func (t *Table) Lock(name string, limit int) (LockInfo, bool) {
	l := t.lockNamed(name)
	if l == nil {
		return LockInfo{}, false
	}
	return l.info(limit), true
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
			out = append(out, l.info(perLock))
		}
		return true
	})
	return out
}

func (l *lock) info(limit int) LockInfo {
	i := LockInfo{Name: l.name, Slots: l.slots, NumHolders: l.holders.len(), NumWaiters: l.waiters.len()}
	if l.block != nil {
		i.BlockedUntil = l.block.until
	}
	for c := l.holders.head; c != nil && len(i.Holders) < limit; c = c.next {
		i.Holders = append(i.Holders, c.holderInfo())
	}
	for c := l.waiters.head; c != nil && len(i.Waiters) < limit; c = c.next {
		i.Waiters = append(i.Waiters, c.waiterInfo(len(i.Waiters)+1))
	}
	return i
}

func (c *claim) holderInfo() HolderInfo {
	x := c.details()
	h := HolderInfo{
		Owner: x.owner, Metadata: x.metadata, Mode: c.modeOf(), Slots: c.lock.slots, Token: c.token, Since: c.since,
	}
	h.TTL, h.Deadline = c.lease()
	return h
}

func (c *claim) waiterInfo(position int) WaiterInfo {
	x := c.details()
	return WaiterInfo{
		Owner: x.owner, Metadata: x.metadata, Mode: c.modeOf(), Position: position, Since: c.since, WaitUntil: x.until,
	}
}

// Key describes what a key stands for, or returns false if it stands for nothing.
func (t *Table) Key(k Key) (KeyInfo, bool) {
	c := t.keys.get(k)
	if c == nil {
		return KeyInfo{}, false
	}
	return c.keyInfo(), true
}

func (c *claim) keyInfo() KeyInfo {
	i := KeyInfo{Lock: c.lock.name, Held: !c.waiting(), Token: c.token, Mode: c.modeOf(), Slots: c.lock.slots, Since: c.since}
	i.Attachment, i.Task = c.attachment, c.lock.isTask
	i.TTL, i.Deadline = c.lease()
	if c.waiting() {
		i.Deadline, i.Position = c.extra.until, c.position()
	}
	return i
}

// Session describes the session with that id, shared or private (then the id is the key), with up to limit of its keys, or
// returns false.
func (t *Table) Session(id Key, limit int) (SessionInfo, bool) {
	if s := t.sharedSession(string(id[:])); s != nil {
		i := SessionInfo{TTL: s.ttl, Deadline: s.deadline, Opened: s.opened, Owner: s.owner, Metadata: s.metadata}
		i.NumKeys = s.n
		for c := s.head; c != nil && len(i.Keys) < limit; c = c.extra.sessionNext {
			i.Keys = append(i.Keys, c.keyInfo())
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
		Keys: []KeyInfo{c.keyInfo()}, NumKeys: 1,
	}, true
}
