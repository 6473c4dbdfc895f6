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
// Owners. Whoever is told who holds a lock, waits for it or has a claim is told the owner that the acquire or claim named, or
// else that of its session.
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
// or joins the end of the queue (Waiting), or, if its session waits there in the same mode already, right behind that place:
// the places of a session in one mode are granted together, and giving one up does not throw the others back. The head of the queue is granted as long as it is eligible: exclusive when
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
// Refusals are looked for in this order: Invalid, the request number, the known key, KeySpent or Broken, KeyInUse (the id of a
// session as key), NoSession or SessionPrivate, TooManyKeys, ModeMismatch, TooManyLocks, Held, TooManyWaiters,
// TooManyHolders, TooManyKeys (of all), TooMuchText, Deadlock. An acquire that the queue grants is refused nothing any more.
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
// the smallest goes, and every number up to it is RequestTooOld from then on. A SlotPassed is not remembered: the same request
// comes again, with the present slot.
//
// Sets. An Acquire may name a set of locks, each with its own mode and slots: it gets all of them or none, with one key,
// one token and one lifetime. It is granted at once if each of its locks would be granted to a plain acquire, and
// otherwise refused or put at the end of the queue of each of its locks, also of those that are free. It is granted when
// it is the head of all those queues and eligible in each; until then it lets nobody behind it pass. Since places are
// taken in all queues in one step, two sets never wait for each other. A set is one hold and one place: whatever ends,
// renews or drops it on one lock does so on all. A Release or Renew may name any of its locks, or none. Sets are not
// re-entrant: one that names a lock that its session holds or waits for is a Deadlock (if it may wait; otherwise Held). A plain
// acquire of the session on a lock of the set that holds it is re-entrant as any other. The order in which an acquire names
// the locks means nothing: everywhere else they come in the order of their names. A set counts as so many holds or places as
// it has names, and as one key; a refusal for want of room is looked for on all its locks before the next kind of refusal. Held
// tells about the first of the locks that it cannot have at once, Position is that in the queue where it stands furthest back,
// and each lock has its own event, except Superseded, which comes once, for the first. Its names count as text once more, with
// 4 bytes for each.
//
// Looking at queues again. Whatever ends a hold, a place or a delay puts the lock, or for a set its locks in the order of
// their names, at the end of a list; the list is worked off from its front, after the claims concerned are gone. When the
// queue of a lock is looked at and its head is a set that is granted, the other locks of the set are put on the list too. A
// lock is on the list at most once at a time.
//
// Deadlocks. Who holds or waits is a session, shared or private; one that waits proceeds when all its places are granted,
// and one that waits for nothing proceeds. Let everybody end who proceeds, grant what falls free by the rules of the queue, and
// again, until nothing changes (graph reduction: Holt, Some deadlock properties of computer systems, 1972): an Acquire that
// would wait, and whose session would be left then, waiting for itself by way of others who are left, is refused as Deadlock.
// Of somebody who is left, a place waits for those who are left and hold the lock in a mode that conflicts (of a semaphore, if
// no permit is free), and for those before it in the queue who conflict with it or belong to a set that waits; a place that is
// granted together with an earlier one waits for nothing of its own. Cycle is a shortest way round; a request number that is
// repeated gets none. A session that holds nothing and waits for nothing else can close no cycle, so that the question costs
// nothing for it. Waits for tasks do not count: whoever waits for nothing but tasks proceeds. Lock delays end by themselves, and waits that would run out and lifetimes that would end do not count: like
// GET_LOCK, the one who would have to wait for them is told at once. A session stands for one thread of work: one that
// waits in two places at once waits for both, and one that waits for a lock in both modes waits for itself. Since everybody
// who would close a cycle is refused, and neither a grant, a release nor a lost place closes one, nobody ever waits in one;
// with one exception: a question that takes more than 32,768 looks at holds and places (queues of that length, of sessions
// that hold and wait elsewhere) is not pursued, and the asker gets its place.
//
// Asking. An Ask is told to the holders in the answers to their renewals by key (or by the id of a private session), and to
// observers; the newest counts. One that says the same as the one that counts is a repetition: it changes nothing and is
// not told to observers again. It goes when the lock has no holder any more or its time is over. Of a lock that nobody
// holds it is NotHeld. Its words count as text. The holder of a set is told what is asked about the first of its locks, in
// the order of their names, about which anything is.
//
// Breaking. A Break ends, like an expiry, all holds with tokens up to the one that it names (Released, and how many keys);
// their keys are spent, and a Renew, Release, HandOver, Acquire or ClaimTask by one of them, or a RenewSession by the id of a private
// session, is Broken, with the reason, as long as the key is remembered as spent and there is room for its reason: the
// reasons may take an eighth of Settings.MaxTextBytes, of their own; the oldest are forgotten first, the keys then are just
// spent. Shared sessions live on. If there is no such hold it is NotHeld. A set that holds the lock is broken on all its locks.
//
// Handing over. The hold is released, and the first waiter whose owner is the successor is granted, before all others, if it
// is eligible in everything but its place in the queue; otherwise it is NoSuccessor and nothing changes. A waiter's owner is
// the one that its acquire named, or else that of its session. Only the only holder of a lock can hand it over (none of
// several keys of a counted hold), and no set and to no set, and only to a session that waits for nothing else: whoever is
// overtaken then waits for somebody who can proceed, so that a hand-over closes no cycle. After the grant the queue is looked at
// as always.
//
// Past holds. When a hold ends, however it ends, it is remembered: up to Settings.MaxHistoryPerLock of one lock and
// MaxHistory in all, the oldest forgotten first, and for HistoryRetention. Their texts (name, owner, order and reason) may
// take an eighth of MaxTextBytes, of their own, so that remembering refuses nobody anything; beyond that, too, the oldest go.
// A lower limit per lock counts from the lock's next past hold on. An undelivered hold that was taken back is not remembered.
// A counted hold (re-entrance) is one past hold, from the first grant of those of its keys that were not taken back (of
// several at that time, the one that had waited longest) to the end of its last key, as which it ended. A past hold's owner
// is the one that its acquire named, or else that of its session. A set is remembered once with each of its locks.
//
// Expected waits. The mean of the remembered times of a lock, in whole microseconds, gives what an acquire is told to
// expect: for the head of the queue what is left of the mean for the hold of the lock's first holder (not less than 0), and
// one mean more for each place; for a semaphore, all that divided by its slots; and while a delay blocks the lock, not less
// than what is left of that. It is 0 while nothing is remembered. A place further back than CountedPositions counts as that
// in a repeated acquire. A refused acquire is told what the end of the queue would have to expect. A
// set that waits is told the longest of its locks, and one that is refused that of the lock which Held tells about.
//
// Calendar. The calendar is cluster time plus an offset that Calendar commands set. A reading that is ahead of the calendar
// by more than a millisecond is taken over; one that is behind changes nothing, unless it is forced. So the calendar never
// goes back by itself, and between readings it goes as fast as cluster time. The offsets are remembered as long as past
// holds are, so that the calendar time of a past moment can be told, but at most 1,000 of them: when there are more, the one
// goes that changed the calendar least (of those the oldest; never the first nor the newest). For moments before the first
// offset that is remembered, the calendar is not known.
//
// Tasks. A task is named like a lock, in a room of its own: what a command for locks says about a name is about the lock.
// A task has a claimant or none. A ClaimTask on an unknown name, or on a task that can be claimed, makes the key its
// claimant: the attempt counts, takes the next token, and lives in the key's session, private or shared, by the rules of a
// hold. Otherwise it is answered with how the task stands (NotClaimable) or, while the task runs or is open, gets a place
// (Waiting) if it may wait. Repeating it with a known key is the same request again, as for Acquire (it must name the same
// task and session); with the key that finished last it is NotClaimable, with how the task stands. When the task is over
// (done, failed or unknown), all who wait are told so (EventTaskAnswered) and their places are gone, their keys not spent;
// so are those whose wait ran out. When it can be claimed (again), the first of them is its claimant. What ClaimTask says
// about attempts, delays and keeping is what counts from its claim on, for one who waited from the time when it gets the
// claim. One whose own MaxAttempts are used up by now is passed over, and waits until the task is over.
//
// A task is done when its claimant reports so (FinishTask; by any other key it is NotClaimant and changes nothing), and
// stays so for Keep, or for good; with a Keep of 0 the record goes in the same step. When an attempt fails, or its session
// ends or is lost, the task is open again, and can be claimed after RetryDelay; if all attempts are used up it has failed,
// which is kept as done is. With AtMostOnce a lost claimant makes it unknown: nobody gets it until an operator settles it,
// or the next slot begins. A claim that was taken back (Abandon) does not count: the task can be claimed at once, and a
// record that has no other attempt, no last run and nobody who waits goes. An open record goes only by order: who leaves a
// task undone leaves its record, up to Settings.MaxTasks of them.
//
// The record remembers the key that finished last, and how. A FinishTask that it repeats is Finished again, with how the
// task stands by then, as long as the record stays and nobody else finished; with the other verdict it is NotClaimant.
//
// A Release or Renew without a name is about whatever the key stands for: a claimant that releases its key so, or ends its
// session, has lost the attempt (as far as it came, nobody knows), and one who waits gives up the place; their keys are
// spent.
//
// A ForgetTask removes the record, of a running task only by its token: its claimant has lost the claim, the key is spent.
// Those who wait begin a new task of that name. A SettleTask applies to a task that is unknown or failed, with the token
// that it names; the run ends now as done or failed, kept from now on, or is open at once with all its attempts. If the task
// stands so already, with the same text, it is Done and nothing changes. Otherwise TaskChanged.
//
// The refusals of a ClaimTask are looked for in the order of Acquire: Invalid, the request number, the known key,
// NotClaimable of the key that finished, KeySpent, KeyInUse, NoSession or SessionPrivate, TooManyKeys, SlotPassed,
// TooManyTasks, NotClaimable, TooManyWaiters, TooManyKeys (of all), TooMuchText. ClaimTask, FinishTask and RenewTask carry
// request numbers, as Acquire, Release and Renew do.
//
// Schedules. A claim may name a slot in calendar time that contains the present (otherwise SlotPassed). If the task is not
// running and the slot begins after that of the newest run (or that had none), it is the claim of a new run, with all its
// attempts, whatever became of the last one; otherwise it is a claim on the present run. So one who waits has waited for the
// run that was there, whatever its own slot, and claims again if it is told that that one is over. The record of a slot's run
// is not forgotten before the slot has ended by the calendar, even if that was set back. AtLeast (the larger of what the
// newest claim said and this one says) forbids a claim of a new run (NotClaimable, without a place; ClaimableAt tells until
// when) within that time after the end of the last run that was done or failed, and the record of such a run is kept for so
// long; attempts of a run that is open do not wait for it.
//
// Level. A table begins at level 1, and a Raise lifts the level to the version that it names; it is never lowered. What a
// table of some level does and writes is what a server of that version would: another behaviour begins only with a level, so
// that servers of both versions agree until then. At level 1 a session's owner is not that of its claims, no past holds are remembered, nothing is refused as Deadlock, and
// the places of one session do not stand together; sessions that came to wait for each other before the Raise may go on so. The
// callers see to it that no command above the level is applied.
//
// Limits. All limits are in Settings, which are part of the replicated state. Over a limit on locks, waiters, sessions
// or keys an Acquire or OpenSession is refused; what is held can always be renewed and released. Claims count like holds,
// except for MaxLocks. A result, an error or a progress that finds no room is TooMuchText, and neither ends the attempt nor
// renews it; one that is no longer than what it replaces always finds room. Zero-valued fields of version 1 in a Configure are
// refused: settings are replaced as a whole. In those of version 2, 0 stands for a default that never changes.
package locktable
