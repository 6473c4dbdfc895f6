"""What the client with threads hands out: leases, sessions, claims."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from types import TracebackType
from typing import Any, Callable, Dict, List, Optional, Tuple, Type, TypeVar

from . import protocol
from .acquiring import Ask, Got, Keeping, Member, Place, give_up, open_session, release, review
from .errors import Held, LeaseLost, Problem, Refused
from .flow import GIVE_UP_WITHIN, Flow, call
from .protocol import Names, Target
from .running import Keeper, Runner
from .tasks import report_progress
from .validity import Validity
from .wire import Request

log = logging.getLogger("doubledutch")
Self = TypeVar("Self", bound="_Held")
Asked = Dict[str, Any]


class _Held:
    """Something that is held until it is released or lost."""

    def __init__(self, runner: Runner, what: str, validity: Validity) -> None:
        self._runner = runner
        self._what = what
        self._validity = validity
        self._keeping: Optional[Keeping] = None
        self._keeper: Optional[Keeper] = None
        self._ending = threading.Lock()  # guards _ended
        self._ended = False
        self._session: Optional[_Held] = None  # that it is held by
        self._broken: Optional[Problem] = None  # why it is gone although its session goes on

    def _start(self, renewal: Request, on_lost: Optional[Callable[[Any], object]], on_asked: Optional[Callable[[Asked], object]]) -> None:
        self._keeping = Keeping(self._what, self._validity, renewal, on_asked)
        self._keeper = Keeper(self._runner, self._keeping, lambda: on_lost(self) if on_lost else None)
        _held.add(self)

    @property
    def lost(self) -> bool:
        """Whether it is lost; once lost it stays so. After the release it says how it was then, or becomes true with time."""
        return bool(self._why_lost())

    def remaining(self) -> float:
        """The seconds for which it is ours even if no renewal succeeds any more; 0 if it is lost or released."""
        return 0.0 if self._is_over() or self._broken else self._validity.remaining()

    def check(self) -> None:
        """Raises LeaseLost if it is lost or released. Asks nobody: it costs a microsecond."""
        why = self._why_lost()
        if why:
            raise LeaseLost(f"{self._what} is lost: {why}", self._broken or self._validity.problem)
        if self._is_over():
            raise LeaseLost(f"{self._what} was released")

    def _why_lost(self) -> str:
        return self._validity.why_lost() or (str(self._broken) if self._broken else "")

    def _break(self, problem: Problem) -> None:
        self._broken = problem

    def _is_over(self) -> bool:
        return self._ended or (self._session is not None and self._session._ended)

    def _request_to_end(self) -> Request:
        raise NotImplementedError

    def release(self) -> None:
        """Ends it, so that others can have it. Raises LeaseLost if it had been lost before: then what was done under it may have been
        done beside somebody else. The second time it does nothing. In a forked child it releases nothing, and raises LeaseLost."""
        if not self._validity.is_ours:
            self.check()
        with self._ending:
            if self._ended:
                return
            self._ended = True
        if self._keeper is not None:
            self._keeper.stop()
        _held.discard(self)
        self._runner.run(
            release(self._runner.settings, self._request_to_end(), self._validity, self._what, self._session is None)
        )

    def _settled(self) -> None:
        """Notes that it has ended otherwise than by release."""
        with self._ending:
            self._ended = True
        if self._keeper is not None:
            self._keeper.stop()
        _held.discard(self)

    def _abandon(self, within: float) -> None:
        """Releases it at the end of the program, if a server can be reached."""
        if self._ended or not self._validity.is_ours:
            return
        self._ended = True
        if self._keeper is not None:
            self._keeper.stop()
        try:
            self._runner.run(call(self._runner.settings, self._request_to_end(), within, within))
        except Exception as error:
            log.debug("%s was not released: %s", self._what, error)

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        if error is None:
            self.release()
            return
        try:
            self.release()
        except Exception as trouble:  # the error of the block says more
            log.debug("at the end of a block that raised: %s", trouble)


class Lease(_Held):
    """A lock, or a set of locks, that is held. It is renewed in a thread of its own. Methods are safe for concurrent use."""

    names: Tuple[str, ...]
    token: int
    """The fencing token: greater than those of all grants before. Pass it to the resource that the lock protects."""
    key: str
    """The secret that proves the hold. Whoever has it can release the lock."""

    def __init__(self, runner: Runner, ask: Ask, got: Got) -> None:
        validity = got.validity or ask.session
        assert validity is not None
        super().__init__(runner, f"the lock {', '.join(map(repr, ask.target.names))}", validity)
        self.names, self.token, self.key = ask.target.names, got.members["token"], ask.key
        self._target = ask.target

    @property
    def name(self) -> str:
        """The name of the lock; of a set, of its first."""
        return self.names[0]

    @property
    def asked(self) -> Optional[Asked]:
        """What somebody has asked the holder, as the newest renewal told: owner, reason, within, due_in. None: nothing."""
        return self._keeping.asked if self._keeping else None

    def hand_over(self, to: str) -> None:
        """Releases the lock to the first waiter of that owner. Raises Refused, code no_successor, if there is none; then it is kept.
        What the lock protects must have come to rest before: the successor may be at work when this returns."""
        self.check()
        request = protocol.hand_over(self.name, self.key, to)
        answered = self._runner.run(call(self._runner.settings, request, self._runner.settings.patience, self._runner.settings.try_timeout))
        problem = answered.problem
        if problem is not None and not (answered.repeated and problem.code == "not_held"):
            raise Refused(problem)
        self._settled()

    def _as_member(self) -> Member:
        return Member(self.token, protocol.renew(self._target, self.key), self._break)

    def _request_to_end(self) -> Request:
        return protocol.release(self.key)

    def __repr__(self) -> str:
        return f"<Lease {', '.join(self.names)} token={self.token} remaining={self.remaining():.3f}>"


class Claim(_Held):
    """The permission to do a task, which the function that does it gets from current_claim()."""

    def __init__(self, runner: Runner, name: str, target: Target, ask: Ask, got: Got) -> None:
        assert got.validity is not None
        super().__init__(runner, f"the claim on the task {name!r}", got.validity)
        self.name, self.key, self.target = name, ask.key, target
        self.token: int = got.members["token"]
        self.attempt: int = got.members["attempt"]
        self.slot: Optional[Dict[str, str]] = got.members.get("slot")

    def progress(self, text: str) -> None:
        """Tells how far the work is, to whoever looks at the task; renews as well. Raises LeaseLost."""
        assert self._keeping is not None
        self._runner.run(report_progress(self._runner.settings, self.target, self.key, text, self._keeping))

    def _request_to_end(self) -> Request:
        return protocol.release(self.key)


class Session(_Held):
    """One lease for many locks: renewed as one, ended as one, and all lost together."""

    def __init__(
        self, runner: Runner, acquirer: "Acquirer", ttl: float, owner: str, metadata: Optional[str],
        on_lost: Optional[Callable[["Session"], object]],
    ) -> None:  # fmt: skip
        self.id = protocol.new_key()
        try:
            validity = runner.run(open_session(runner.settings, self.id, ttl, owner, metadata))
            super().__init__(runner, "the session", validity)
            self._acquirer, self._ttl = acquirer, ttl
            self._of_it = threading.Lock()  # guards _leases
            self._leases: "weakref.WeakSet[Lease]" = weakref.WeakSet()
            self._start(protocol.renew_session(self.id), on_lost, None)
            assert self._keeping is not None
            self._keeping.review = self._review
        except BaseException:
            runner.run(give_up(runner.settings, protocol.end_session(self.id)))
            raise

    def lock(
        self, name: Names, *, wait: Optional[float] = None, shared: bool = False, slots: Optional[int] = None,
        owner: Optional[str] = None, metadata: Optional[str] = None, lock_delay: Optional[float] = None,
        on_wait: Optional[Callable[[Place], object]] = None,
    ) -> Lease:  # fmt: skip
        """Acquires a lock for the session; see Client.lock. Raises Deadlock if it would wait for itself, directly or through others. A
        lock that the session holds may be acquired again; it is free when each of these was released."""
        self.check()
        target = protocol.lock_target(name, shared, slots)
        common = {"session": self.id, "owner": owner, "metadata": metadata, "lock_delay": lock_delay}
        lease = self._acquirer(Ask(target, self._ttl, wait, common, on_wait, self._validity), None, None)
        lease._session = self
        with self._of_it:
            self._leases.add(lease)
        return lease

    def try_lock(
        self, name: Names, *, shared: bool = False, slots: Optional[int] = None, owner: Optional[str] = None,
        metadata: Optional[str] = None, lock_delay: Optional[float] = None,
    ) -> Optional[Lease]:  # fmt: skip
        """Acquires a lock if that is possible at once, or returns None."""
        try:
            return self.lock(name, wait=0, shared=shared, slots=slots, owner=owner, metadata=metadata, lock_delay=lock_delay)
        except Held:
            return None

    def _review(self) -> Flow[None]:
        with self._of_it:
            members = [lease._as_member() for lease in self._leases if not lease._ended and lease._broken is None]
        return review(self._runner.settings, self.id, self._validity, members)

    def _request_to_end(self) -> Request:
        return protocol.end_session(self.id)


Acquirer = Callable[[Ask, Optional[Callable[[Lease], object]], Optional[Callable[[Asked], object]]], Lease]

_held: "weakref.WeakSet[_Held]" = weakref.WeakSet()
"""What is held now, and would outlive the program."""


def _forget_in_child() -> None:
    _held.clear()


def _snapshot() -> List["_Held"]:
    """What is held, though other threads may go on acquiring."""
    while True:
        try:
            return list(_held)
        except RuntimeError:  # it changed meanwhile
            continue


def _release_at_exit() -> None:
    """Releases what nobody released. All together it takes GIVE_UP_WITHIN at most: the program must end."""
    end = time.monotonic() + GIVE_UP_WITHIN
    for held in _snapshot():
        left = end - time.monotonic()
        if left > 0:
            held._abandon(left)


atexit.register(_release_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
