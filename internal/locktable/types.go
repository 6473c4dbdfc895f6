package locktable

import (
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/command"
)

// Time is a reading of the cluster clock: nanoseconds since the cluster began. It never moves backwards and says
// nothing about the time of day.
type Time int64

// Never is later than every deadline.
const Never Time = 1<<63 - 1

// Add returns t+d, or Never if that would overflow.
func (t Time) Add(d time.Duration) Time {
	if s := t + Time(d); d < 0 || s >= t {
		return s
	}
	return Never
}

// Sub returns the duration t-u.
func (t Time) Sub(u Time) time.Duration { return time.Duration(t - u) }

// Mode says how a hold shares its lock with others.
type Mode = command.Mode

// The modes of a readers-writer lock. A permit of a semaphore is Exclusive.
const (
	Exclusive = command.Mode_EXCLUSIVE
	Shared    = command.Mode_SHARED
)

// KeyLen is the length of keys and of session ids, in characters of [0-9A-Za-z].
const KeyLen = 32

// Key is the secret that proves a hold or a place in a queue. It formats as "(secret)" so that it cannot reach a log by
// accident.
type Key [KeyLen]byte

// ParseKey returns the key that s spells, or false if s is not 32 characters of [0-9A-Za-z].
func ParseKey(s string) (Key, bool) {
	var k Key
	if len(s) != KeyLen {
		return k, false
	}
	k = Key([]byte(s))
	if !k.wellFormed() {
		return Key{}, false
	}
	return k, true
}

// wellFormed tells whether k consists of what keys may consist of.
func (k *Key) wellFormed() bool {
	for _, c := range k {
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}

// Reveal returns the key in clear, for the client that it belongs to.
func (k Key) Reveal() string { return string(k[:]) }

// String hides the key.
func (Key) String() string { return "(secret)" }

// GoString hides the key.
func (Key) GoString() string { return "(secret)" }

// Code says what became of a command. The numbers are stored in snapshots and never change their meaning.
type Code uint32

// The outcomes.
const (
	// Invalid: the command breaks a rule that a correct gateway checks first; Outcome.Detail says which.
	Invalid Code = iota
	// Granted: the key holds the lock. Also the answer to a repeated Acquire of a held key.
	Granted
	// Waiting: the key has a place in the queue; a Granted, TimedOut or Cancelled event follows.
	Waiting
	// Held: the lock is not free and the acquire did not want to wait.
	Held
	// ModeMismatch: the lock is used in another mode or with other slots.
	ModeMismatch
	// KeySpent: the key, or the session id, stood for something that has ended.
	KeySpent
	// KeyInUse: the key or session id stands for something else already.
	KeyInUse
	// Released: the hold ended, or the place was given up.
	Released
	// NotHeld: the key does not hold the lock (and for Release has no place in its queue either).
	NotHeld
	// Renewed: the lifetime started anew.
	Renewed
	// Opened: the session lives. Also the answer to a repeated OpenSession.
	Opened
	// Ended: the session is over; Outcome.Released counts the keys whose holds went with it.
	Ended
	// NoSession: there is no such session.
	NoSession
	// SessionPrivate: the session belongs to one plain acquire and takes no second one.
	SessionPrivate
	// TooManyLocks: Settings.MaxLocks locks are held, waited for or blocked.
	TooManyLocks
	// TooManyWaiters: Settings.MaxWaitersPerLock keys wait for the lock.
	TooManyWaiters
	// TooManySessions: Settings.MaxSessions shared sessions are open.
	TooManySessions
	// TooManyKeys: the session has Settings.MaxKeysPerSession holds and places, or the table Settings.MaxClaims.
	TooManyKeys
	// RequestTooOld: the request number is at or below the ones already forgotten.
	RequestTooOld
	// RequestMismatch: the request number came before with another operation or key.
	RequestMismatch
	// Done: a Poll, Abandon or Configure was applied.
	Done
	// Cancelled: the place in the queue was lost while its client waited for it. Apply never answers so; the node does,
	// for a client that waits and whose place goes with an EventCancelled.
	Cancelled
	// TooManyHolders: Settings.MaxHoldersPerLock keys hold the lock.
	TooManyHolders
	// TooMuchText: names, owners and metadata take Settings.MaxTextBytes bytes in all.
	TooMuchText
	// Deadlock: the acquire would wait for itself; Outcome.Cycle says how. It has no place.
	Deadlock
	// Broken: the key's hold was ended by an operator; Outcome.Detail says by whom and why.
	Broken
	// NotClaimable: the task is running, or over, or open but not for this claim; Outcome.Task says how it stands.
	NotClaimable
	// NotClaimant: the key does not have the claim on the task; Outcome.Task says how it stands.
	NotClaimant
	// Finished: the attempt is over as reported; Outcome.Task says how the task stands.
	Finished
	// NoTask: there is no record of that task.
	NoTask
	// TaskChanged: the task has another token than the command names, or is in a state that the command does not apply to.
	TaskChanged
	// TooManyTasks: Settings.MaxTasks tasks are known.
	TooManyTasks
	// SlotPassed: the slot that the claim names is not the present one; the gateway computes it anew.
	SlotPassed
	// NoSuccessor: nobody of that owner waits for the lock, or none who could hold it alone.
	NoSuccessor
)

// Outcome is the answer to one command. Fields that the Code does not mention are zero.
type Outcome struct {
	Code Code
	// Granted, Waiting, and Renewed by key: how the key stands. Zero for a set, each of whose locks has its own.
	Mode  Mode
	Slots uint32
	// Granted, and Renewed by key: the fencing token.
	Token uint64
	// Granted, Renewed, Opened: the lifetime, and the cluster time at which it ends unless renewed.
	TTL      time.Duration
	Deadline Time
	// Granted: how long the key stood in the queue.
	Waited time.Duration
	// Waiting: 1 is the head of the queue. Of a place further back than that, a repeated acquire is told
	// CountedPositions. Of a set it is the worst one.
	Position int
	// Released, Ended: the number of keys whose holds ended (a place given up counts 0).
	Released int
	// Held, and Done of an Ask: what there is to know about the lock.
	Holder *Holder
	// Invalid: one sentence that says which rule was broken. Broken: by whom and why, if that is still remembered.
	Detail string
	// Deadlock: who waits for whom, from the one who asked back to it. Nil if a request number is only repeated.
	Cycle *Chain
	// Renewed by key or by the id of a private session: what the holder is asked, if anything.
	Ask *AskInfo
	// Waiting, Held: how long it may take, from how long the lock was held before; 0: not known.
	Expected time.Duration
	// Claims, and what is said about tasks: how the task stands. Its status is 0 if there is no record of it.
	Task *TaskInfo
	// The clock after the command's entry.
	Now Time
}

// Chain is who waits for whom, each for the next.
type Chain struct{ Waits []Wait }

// Wait is one step of a chain.
type Wait struct {
	// Who waits: the owner that its claim or session named, "" if none.
	Owner string
	// The lock that it waits for.
	Lock string
	// The owner of who keeps it: a holder, or, if Queued, somebody before it in the queue; and the holder's token.
	HeldBy string
	Token  uint64
	Queued bool
}

// AskInfo is what the holders of a lock are asked.
type AskInfo struct {
	Owner, Reason string
	At, Until     Time
}

// TaskStatus says how a task stands. The numbers are stored in snapshots.
type TaskStatus uint32

// The states of a task.
const (
	// TaskOpen: an attempt failed or was lost, and the task can be claimed (again), perhaps after a delay.
	TaskOpen TaskStatus = iota + 1
	// TaskRunning: somebody has the claim.
	TaskRunning
	// TaskDone: the last attempt was completed.
	TaskDone
	// TaskFailed: the last attempt failed or was lost, and none is left.
	TaskFailed
	// TaskUnknown: the claimant of an at-most-once task was lost; nobody knows how far it came.
	TaskUnknown
)

// TaskInfo is what there is to know about a task. There is no key in it.
type TaskInfo struct {
	Name   string
	Status TaskStatus
	// Attempts that were begun, the running one included, and how many there may be (0: any number).
	Attempts, MaxAttempts uint32
	// The fencing token of the newest attempt.
	Token      uint64
	AtMostOnce bool
	// Who has, or had, the newest claim.
	Owner, Metadata string
	// Done: the result. Otherwise the last error of the run, "" if there was none.
	Text string
	// What the claimant of the newest attempt told last.
	Progress string
	// The beginning of the newest attempt; running: its lifetime, and when it ends unless renewed.
	Since, Deadline Time
	TTL             time.Duration
	// When the newest attempt ended; 0 while it runs.
	Ended Time
	// Over: when the record goes (Never: it stays).
	KeepUntil Time
	// Open, or over: when it can be claimed again; Never: as long as the record stays, not.
	ClaimableAt Time
	// The slot of its schedule in calendar time, 0 if it has none.
	SlotStart, SlotEnd int64
	Waiters            int
}

// Holder tells a refused client about the lock. Of several holders it is the one that came first.
type Holder struct {
	Owner    string
	Metadata string
	Mode     Mode
	Token    uint64
	Since    Time
	// When the hold ends unless renewed; for a lock that is free but blocked by a delay, when the delay ends.
	Deadline Time
	// How many hold it (0: blocked by a delay, or, without a Deadline, kept free for a set that is before in the queue, or free by
	// now) and how many wait for it.
	Holders int
	Waiters int
}

// EventKind says what happened.
type EventKind uint8

// The kinds of events.
const (
	// EventGranted: Key holds Lock from now on.
	EventGranted EventKind = iota + 1
	// EventReleased: the hold was released, ended with its session, or was taken back undelivered.
	EventReleased
	// EventExpired: the hold's session expired.
	EventExpired
	// EventQueued: Key waits for Lock.
	EventQueued
	// EventCancelled: the place was given up, abandoned, no longer polled, or went with its session.
	EventCancelled
	// EventTimedOut: the wait ran out.
	EventTimedOut
	// EventSuperseded: the place has a newer attachment; Event.Attachment is the older one.
	EventSuperseded
	// EventSessionExpired: a shared session expired; Lock is empty.
	EventSessionExpired
	// EventBroken: the hold was ended by an operator; By and Reason say by whom and why.
	EventBroken
	// EventHandedOver: the hold was released in favour of the owner By.
	EventHandedOver
	// EventAsked: the holders are asked to make way; By, Reason and Deadline say by whom, why and until when.
	EventAsked
	// EventTaskClaimed: Key has the claim on the task Lock.
	EventTaskClaimed
	// EventTaskQueued: Key waits for the task Lock.
	EventTaskQueued
	// EventTaskAnswered: Key waited for the task, which is over now, or whose wait ran out; it has no place any more.
	EventTaskAnswered
	// EventTaskCancelled: Key waited for the task and its place was lost.
	EventTaskCancelled
	// EventTaskProgress: the claimant told how far it is.
	EventTaskProgress
	// EventTaskDone, EventTaskFailed: the claimant reported the end of its attempt. Event.Task says what became of the task.
	EventTaskDone
	EventTaskFailed
	// EventTaskLost: the claimant's session ended before the task did. Event.Task says what became of the task.
	EventTaskLost
	// EventTaskTakenBack: the claim was never delivered to its client and does not count.
	EventTaskTakenBack
	// EventTaskSettled: an operator decided about the task.
	EventTaskSettled
	// EventTaskForgotten: the record went, by its time, by order, or since its only claim was taken back. Key is that of the
	// claimant who lost the claim by it, if there was one.
	EventTaskForgotten
)

// Event tells observers what one step did. Events come in the order in which things happened.
type Event struct {
	Kind EventKind
	Lock string
	// The key concerned; never to be shown to anybody but its owner.
	Key Key
	// The attachment that counted for the key: whom of several that wait with it the event concerns.
	Attachment uint64
	Mode       Mode
	Slots      uint32
	Token      uint64
	Owner      string
	Metadata   string
	// EventGranted, EventTaskClaimed: the session's lifetime and when it ends.
	TTL      time.Duration
	Deadline Time
	// EventGranted, EventCancelled, EventTimedOut, and of tasks claimed, answered, cancelled: how long it waited.
	Waited time.Duration
	// EventReleased, EventExpired, EventBroken, EventHandedOver, and the ends of attempts: how long it held.
	HeldFor time.Duration
	// EventTimedOut: what the refused client is told, as in the outcome Held.
	Holder   *Holder
	Expected time.Duration
	// EventBroken, EventHandedOver, EventAsked: by whom (for whom), and why.
	By, Reason string
	// Task events, and EventSuperseded of one who waits for a task: how the task stands now (EventTaskForgotten: stood before).
	Task *TaskInfo
	// How many locks the hold or place is on: 0 or 1, or the number of names of a set, each of which has its own event.
	Set int
}
