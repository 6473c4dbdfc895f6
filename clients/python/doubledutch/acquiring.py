"""Acquiring, keeping and giving up locks, sessions and claims on tasks, as flows."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Optional, Union

from . import protocol
from .errors import Deadlock, Held, LeaseLost, Problem, Refused, Unavailable, Unknown
from .flow import GIVE_UP_WITHIN, Answered, Flow, Settings, call, notify, sleep_until
from .protocol import Target
from .validity import Validity
from .wire import Request

RENEW_AFTER = 1 / 3
JITTER = 0.15
"""Renewals come up to this share earlier, so that clients do not march in step."""
FIRST_POLL, LONGEST_POLL = 1.0, 5.0
"""Slices of a wait, in seconds. A place outlives the last sign of its client by 15 s. In that time it has to be noticed that a server
does not answer, and another one asked; the first slices are shorter, so that it is noticed sooner still."""
FRESHENINGS = 3
"""How often a grant whose answer took long is renewed, before the servers are taken to be too slow for its ttl."""
KEYS_A_TRY = 3
"""How many keys one that does not wait uses up, if they are spent before it knows what they stood for."""

GONE_KEY = frozenset(("key_spent", "cancelled", "broken"))


@dataclass(frozen=True)
class Place:
    """A place in a queue. `expected_wait` is a guess in seconds, None if there is none."""

    position: int
    queue_length: int
    waited: float
    expected_wait: Optional[float]


@dataclass
class Ask:
    """One acquire. `key` is the one that is used at present; `pending` tells whether it may stand for something."""

    target: Target
    ttl: float
    wait: Optional[float]  # None: for ever
    common: Dict[str, Any]
    on_wait: Optional[Callable[[Place], object]] = None
    session: Optional[Validity] = None
    patience: Optional[float] = None
    key: str = field(default_factory=protocol.new_key, repr=False)
    pending: bool = False


@dataclass
class Got:
    """What came of an acquire: what the server said, and until when it holds (None with a session, or if a task is not ours)."""

    members: Dict[str, Any]
    validity: Optional[Validity]


def acquire(s: Settings, ask: Ask) -> Flow[Got]:
    """Stands in the queue, in slices, until the lock is ours or the wait is over. For a task, until it is ours or over. Raises Held,
    Deadlock, Refused, Unavailable, Unknown, or LeaseLost if it is for a session that is lost."""
    if ask.wait is not None and not ask.wait >= 0:
        raise ValueError("wait must be a number of seconds, 0 or more; None waits for ever")
    slice_ = FIRST_POLL
    until = math.inf if ask.wait is None else s.clock() + ask.wait
    keys = 1
    while True:
        if ask.session is not None:
            ask.session.check("the session")
        left, poll = max(until - s.clock(), 0.0), min(ask.ttl / 3, slice_, LONGEST_POLL)
        slice_ = min(2 * slice_, LONGEST_POLL)
        got = yield from _ask_once(s, ask, -1.0 if left == math.inf else left, poll)
        if isinstance(got, Got):
            return got
        if got is None:
            continue  # the place is kept; on with the next slice
        if got.code in GONE_KEY:
            # What the key stood for has ended before anybody knew of it, such as a grant whose answer was lost on the way.
            ask.key, ask.pending, keys = protocol.new_key(), False, keys + 1
            if left or keys <= KEYS_A_TRY:
                yield from sleep_until(s, s.clock() + min(0.1 * keys, 2.0) * s.random())
                continue
        if got.code != "held" or s.clock() >= until:
            raise _refusal(got)
        yield from sleep_until(s, min(s.clock() + 0.1, until))  # the server's wait ended before ours


def _ask_once(s: Settings, ask: Ask, wait: float, poll: float) -> Flow[Union[Got, Problem, None]]:
    """One slice. Returns None if it still waits, what was got, or why nothing was got."""
    request = protocol.acquire(ask.target, ask.key, wait, poll, ask.common)
    before, ask.pending = ask.pending, True
    try:
        answered = yield from call(s, request, ask.patience or s.patience, s.try_timeout, poll=poll if wait else 0.0)
    except Unavailable as error:
        ask.pending = before or isinstance(error, Unknown)
        raise
    members, problem = answered.members, answered.problem
    if problem is not None:
        ask.pending = False
        if ask.session is not None and problem.code in ("no_session", "session_private"):
            ask.session.lose(str(problem), problem)
            ask.session.check("the session")
        if problem.code == "no_task":
            yield from sleep_until(s, s.clock() + 0.1 * s.random())
            return None
        return problem
    if members.get("waiting"):
        expected = members.get("expected_wait")
        notify(ask.on_wait, Place(members.get("position", 0), members.get("queue_length", 0), members.get("waited", 0.0), expected))
        return None
    if ask.target.is_task and members.get("status") != "claimed":
        ask.pending = False
        return Got(members, None)
    return (yield from _accept(s, ask, answered))


def _accept(s: Settings, ask: Ask, answered: Answered) -> Flow[Optional[Got]]:
    """Takes a grant. One whose answer took long is renewed first; None if that shows that it is gone."""
    if ask.session is not None:
        return Got(answered.members, None)
    ttl, expires_in = protocol.lease_of(answered.members)
    validity = Validity(s.clock, answered.sent, expires_in, s.margin_of(ttl))
    for tries in range(FRESHENINGS + 1):
        if validity.remaining() >= ttl / 2:
            break
        if tries == FRESHENINGS:
            raise Unavailable(f"the servers take too long to answer for a ttl of {ttl:g} s and a margin of {s.margin_of(ttl):g} s")
        renewed = yield from call(s, protocol.renew(ask.target, ask.key), ask.patience or s.patience, s.try_timeout)
        if renewed.problem is not None:
            ask.key, ask.pending = protocol.new_key(), False
            return None
        ttl, expires_in = protocol.lease_of(renewed.members)
        validity = Validity(s.clock, renewed.sent, expires_in, s.margin_of(ttl))
    return Got(answered.members, validity)


def _refusal(problem: Problem) -> Refused:
    kinds = {"held": Held, "deadlock": Deadlock}
    return kinds.get(problem.code, Refused)(problem)


def give_up(s: Settings, request: Request) -> Flow[None]:
    """Ends what may be there, of which nobody needs to know more, if a server can be reached soon."""
    try:
        yield from call(s, request, GIVE_UP_WITHIN, GIVE_UP_WITHIN / min(len(s.endpoints), 2))
    except Unavailable:
        pass  # it expires, or loses its place, by itself


def leave(s: Settings, ask: Ask) -> Flow[None]:
    """Gives up what an acquire may have left behind that did not come to its end. Nobody has begun to work on a task: its attempt is
    reported to have failed, so that also one that is done at most once can be done by others; if it is no claim, the place is given up."""
    if ask.target.is_task:
        report = protocol.fail(ask.target, ask.key, "it was given up before it had begun")
        try:
            answered = yield from call(s, report, GIVE_UP_WITHIN, GIVE_UP_WITHIN / min(len(s.endpoints), 2))
        except Unavailable:
            return
        if answered.problem is None:
            return
    yield from give_up(s, protocol.release(ask.key))


def open_session(s: Settings, session: str, ttl: float, owner: str, metadata: Optional[str]) -> Flow[Validity]:
    """Opens a session."""
    request = protocol.open_session(session, ttl, owner, metadata)
    for tries in range(1, KEYS_A_TRY + 1):
        answered = yield from call(s, request, s.patience, s.try_timeout)
        if answered.problem is not None:
            raise Refused(answered.problem)
        validity = Validity(s.clock, answered.sent, protocol.lease_of(answered.members)[1], s.margin_of(ttl))
        if validity.remaining() >= ttl / 2 or tries == KEYS_A_TRY:
            break
        request = protocol.renew_session(session)
    if not validity.remaining():
        raise Unavailable(f"the servers take too long to answer for a ttl of {ttl:g} s")
    return validity


@dataclass
class Keeping:
    """What is to be kept alive, and who wants to know about it."""

    what: str
    validity: Validity
    request: Request  # renews it
    on_asked: Optional[Callable[[Dict[str, Any]], object]] = None
    asked: Optional[Dict[str, Any]] = None
    review: Optional[Callable[[], Flow[None]]] = None  # looks, after each renewal, what of it is still there


def keep(s: Settings, k: Keeping) -> Flow[None]:
    """Renews at each third of the lifetime, until the lease is lost. Then it returns; k.validity says why."""
    while not k.validity.why_lost():
        early = 1 - JITTER * s.random()
        yield from sleep_until(s, min(k.validity.renew_at(RENEW_AFTER * early), k.validity.end))
        while k.validity.remaining() > 0:
            try:
                yield from renew_once(s, k)
                if k.review is not None:
                    yield from k.review()
                break
            except (Unavailable, Refused) as error:
                k.validity.note(str(error))
            yield from sleep_until(s, s.clock() + min(0.5, k.validity.remaining() / 4 + 0.01))


@dataclass
class Member:
    """A lock that a session holds, and what to do when it is gone although the session goes on."""

    token: int
    renewal: Request
    lose: Callable[[Problem], object]


def review(s: Settings, session: str, validity: Validity, members: List[Member]) -> Flow[None]:
    """Finds out which locks of a session were broken by an operator, which its renewals do not tell."""
    if not members:
        return
    try:
        answered = yield from call(s, protocol.show_session(session), validity.remaining() / 4, s.try_timeout)
        locks = answered.members.get("locks")
        if answered.problem is not None or not isinstance(locks, list) or answered.members.get("key_count", 0) > len(locks):
            return  # it may be one that is not shown
        held = {lock.get("token") for lock in locks if lock.get("held")}
        for member in members:
            if member.token in held:
                continue
            # Only this answer counts: what was shown may be older than the grant.
            answered = yield from call(s, member.renewal, validity.remaining() / 4, s.try_timeout)
            problem = answered.problem
            if problem is not None and problem.status in (404, 409):
                member.lose(problem)
    except Unavailable:
        pass  # after the next renewal it is looked again


def renew_once(s: Settings, k: Keeping, request: Optional[Request] = None) -> Flow[bool]:
    """Renews now, or sends another request that renews as well. False if the lease is lost. Raises Unavailable, Unknown, or Refused
    if the server refuses the request for another reason, such as a wrong API key."""
    left = k.validity.remaining()
    if left <= 0:
        return False
    answered = yield from call(s, request or k.request, left, min(s.try_timeout, left / 3), min(2.0, left / 10))
    problem = answered.problem
    if problem is None:
        asked = answered.members.get("asked")
        if asked is not None and asked != k.asked and (k.asked or {}).get("since") != asked.get("since"):
            notify(k.on_asked, asked)
        k.asked = asked
        return k.validity.extend(answered.sent, protocol.lease_of(answered.members)[1])
    if problem.status in (404, 409):
        k.validity.lose(str(problem), problem)
        return False
    raise Refused(problem)


def release(s: Settings, request: Request, validity: Validity, what: str, own: bool = True) -> Flow[None]:
    """Ends a hold or a session; `own`: the validity is its own, and not that of its session. Raises LeaseLost if it turns out to have
    ended before. A server that cannot be reached is no error: then the hold ends by itself."""
    why = validity.why_lost()
    try:
        answered = yield from call(s, request, min(s.patience, max(validity.remaining(), GIVE_UP_WITHIN)), s.try_timeout)
    except Unavailable:
        answered = None
    if why:
        raise LeaseLost(f"{what} was lost: {why}", validity.problem)
    if answered is None or answered.problem is None or answered.repeated:
        return  # after a repetition, "not held" means that it is done
    problem = answered.problem
    if problem.status in (404, 409):
        if own:
            validity.lose(str(problem), problem)
        raise LeaseLost(f"{what} was lost before it was released: {problem}", problem)
