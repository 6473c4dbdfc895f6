// Package locktable is the state machine that decides who holds which lock.
//
// A Table is fed entries of a replicated log, each a reading of the cluster clock and a batch of commands, and answers
// with one Outcome per command and a list of Events. It has no clock, no randomness, no goroutine and no I/O of its
// own: the same entries give the same outcomes, events and snapshot bytes on every server, today and after a replay. A
// Table is not safe for concurrent use; its owner serialises every call.
//
// # Rules
//
// The rules below are the specification. The golden scripts in testdata say the same in examples, and model_test.go
// says it again as naive code.
//
// Time. An entry moves the clock to its own reading, never backwards. Then all deadlines at or before the clock fire,
// in (deadline, seq) order, and after them the commands run, in order. Whatever happens in an entry happens at the
// entry's time, and a waiter whose session is overdue by then is passed over even if the lock fell free before: a lock
// that fell free at 10 s and is granted by an entry of 12 s is held from 12 s on.
//
// Sessions. Only sessions expire. A shared session is opened by OpenSession and holds any number of keys. An Acquire
// that names no session gets a private one, whose id is the key and which ends with its one hold. A session's deadline
// is its last grant (private) or opening (shared) or renewal plus its ttl. When the deadline fires, its holds are
// released as expired and its places in queues are dropped as cancelled, all in the same step: first all keys of the
// session go, in the order in which they came, then the queues of the locks concerned are looked at, in the same order.
// EndSession does the same, with the holds released. RenewSession and EndSession take the id of a private session too;
// one that still waits cannot be renewed (NoSession), and ending it gives up the place.
//
// Keys. A key stands for one hold or one place. An Acquire whose key is known is the same request again: it answers
// with the same grant (same token, remaining time; the hold is not renewed) or with the same place, whose wait starts
// anew from this entry and whose grace too; without a wait (0) it gives the place up: TimedOut and Held. It must name
// the same lock, session, mode and slots, otherwise KeyInUse. A key whose hold was released, expired or ended with its
// session is spent, and so is a waiting key that was released or whose session ended; an Acquire with a spent key gets
// KeySpent. Spent keys are remembered for Settings.SpentRetention and at most Settings.MaxSpent of them, oldest
// forgotten first. A wait that ran out, an Abandon and a lapsed poll do not spend the key. The id of a shared session
// that ended or expired is spent too.
//
// Modes. A lock without holders and waiters has no kind. With slots = 0 it is a readers-writer lock: holds are
// exclusive or shared. With slots = N it is a semaphore of N permits. All holders and waiters of a lock must agree on
// slots, otherwise ModeMismatch. A semaphore is always acquired with mode exclusive (shared with slots is Invalid).
//
// Queue. An Acquire is granted at once if it is eligible and nobody waits. Otherwise it is refused as Held (wait = 0)
// or joins the end of the queue (Waiting). The head of the queue is granted as long as it is eligible: exclusive when
// nobody holds, shared when all holders are shared, a permit while fewer than N are held, and nobody while the lock is
// blocked by a lock delay. Nobody overtakes the head, with one exception, re-entrance. The queue is looked at again
// whenever a hold ends, a waiter leaves or a delay ends, in the same step.
//
// Re-entrance. A shared session that holds a readers-writer lock and acquires it again in the same mode, with another
// key, is granted at once, before all waiters and even during a lock delay: it is one hold, counted, with one token,
// and free when each key was released. In another mode it is ModeMismatch, since it would wait for itself. A waiter
// whose session comes to hold the lock in the same mode through another of its places is granted in the same step.
// Permits of a semaphore are not re-entrant: each acquire takes one.
//
// The end of a session is told before the ends of its keys. The id of a session is spent after its keys.
//
// Refusals are looked for in this order: Invalid, the request number, the known key, KeySpent, KeyInUse (the id of a
// session as key), NoSession or SessionPrivate, TooManyKeys, ModeMismatch, TooManyLocks, Held, TooManyWaiters,
// TooManyHolders, TooManyKeys (of all), TooMuchText. An acquire that the queue grants is refused nothing any more.
//
// Tokens. Each grant, except a re-entrant one, takes the next integer. Tokens are unique over all locks, and below 2^53.
// Their upper 13 bits are the epoch, their lower 40 bits count within it; a counter that has run full goes on in the next
// epoch, as integers do. BumpEpoch, for a table that was restored from a backup, begins an epoch: the next grant takes a
// token that the cluster that was lost has not given since, unless it made 2^39 grants or more after the backup.
// RenewAll, for the same table, starts all lifetimes anew: what was about to end may have been renewed after the backup.
//
// Lock delay. When a session expires, each lock that one of its keys held with lock_delay > 0 is blocked until the
// entry's time plus the longest such delay. Release, EndSession and Abandon do not block. A blocked lock without
// holders refuses tries as Held.
//
// Polls. The polls of an entry count before its deadlines fire, so that a pause of the server, after which the first
// entry comes late, costs nobody a place whose client is still connected.
//
// Waits. A waiter has two deadlines: its wait (negative: none) and its grace, Settings.WaiterGrace after it queued or
// was last attached or polled. When the wait ends first or at the same time it is TimedOut, otherwise Cancelled. A
// waiter in a shared session goes with its session as well.
//
// Attachments. An Acquire carries the attachment of the connection it came by. While the key waits, the newest
// acquire's attachment counts, and the older one is told so (Superseded); an acquire with another attachment that finds
// the key already held, and a renewal by the key, clear it: the client knows of its hold. Abandon acts only when its attachment is not 0 and
// is the one that counts: it drops the place, or releases the hold without spending the key.
//
// Requests. Calls inside a shared session may carry request numbers (greater than 0). The last
// Settings.MaxRepliesPerSession are remembered with what they asked and what came of it; a number that comes again gets
// the same outcome without a second effect (an Acquire that was accepted: the present state of its key, or KeySpent
// once the key is spent; if it was taken back without being spent, it is done anew; one that was refused as Held tells
// about the lock as it is now). With another operation or key it is RequestMismatch. When a number has to be forgotten,
// the smallest goes, and every number up to it is RequestTooOld from then on.
//
// Level. A Raise lifts the level to the version that it names; it is never lowered. What a table of some level does and
// writes is what a server of that version would: another behaviour begins only with a level, so that servers of both
// versions agree until then. The callers see to it that no command above the level is applied.
//
// Limits. All limits are in Settings, which are part of the replicated state. Over a limit on locks, waiters, sessions
// or keys an Acquire or OpenSession is refused; what is held can always be renewed and released. Zero-valued fields in
// a Configure are refused: settings are replaced as a whole.
package locktable
