"""What the client for asyncio hands out: leases, sessions, claims."""

from __future__ import annotations

import asyncio
import logging
import weakref
from types import TracebackType
from typing import Any, Awaitable, Callable, Dict, Generator, Generic, Optional, Tuple, Type, TypeVar

from .. import protocol
from ..acquiring import Ask, Got, Keeping, Member, Place, give_up, open_session, release, review
from ..errors import Held, LeaseLost, Problem, Refused
from ..flow import Flow, call
from ..protocol import Names, Target
from ..tasks import report_progress
from ..validity import Validity
from ..wire import Request
from .running import Keeper, Runner

log = logging.getLogger("doubledutch")
H = TypeVar("H", bound="_Held")
Asked = Dict[str, Any]


class Guard:
    """Cancels the task that is in a block, once, when its lease is lost."""

    def __init__(self) -> None:
        self._task: Optional["asyncio.Task[Any]"] = None
        self._before = 0
        self._cancelled = False

    def enter(self) -> None:
        self._task = asyncio.current_task()
        self._before = self._pending()
        self._cancelled = False

    def trip(self) -> None:
        """The lease is lost."""
        if self._task is not None and not self._cancelled:
            self._cancelled = True
            self._task.cancel()

    def leave(self, error: Optional[BaseException]) -> bool:
        """Ends the block. Tells whether the error with which it ends comes from here, and from nowhere else."""
        task, self._task = self._task, None
        if task is None or not self._cancelled:
            return False
        if hasattr(task, "uncancel"):  # Python 3.11: the task knows how many want it cancelled
            return task.uncancel() <= self._before and isinstance(error, asyncio.CancelledError)
        return isinstance(error, asyncio.CancelledError)

    def _pending(self) -> int:
        return int(self._task.cancelling()) if self._task is not None and hasattr(self._task, "cancelling") else 0


class _Held:
    """Something that is held until it is released or lost."""

    def __init__(self, runner: Runner, what: str, validity: Validity) -> None:
        self._runner = runner
        self._what = what
        self._validity = validity
        self._keeping: Optional[Keeping] = None
        self._keeper: Optional[Keeper] = None
        self._guard = Guard()
        self._dependents: "weakref.WeakSet[_Held]" = weakref.WeakSet()  # are lost together with it
        self._ended = False
        self._session: Optional[_Held] = None  # that it is held by
        self._broken: Optional[Problem] = None  # why it is gone although its session goes on

    def _start(self, renewal: Request, on_lost: Optional[Callable[[Any], object]], on_asked: Optional[Callable[[Asked], object]]) -> None:
        self._keeping = Keeping(self._what, self._validity, renewal, on_asked)
        self._keeper = Keeper(self._runner, self._keeping, lambda: self._was_lost(on_lost))

    def _was_lost(self, on_lost: Optional[Callable[[Any], object]]) -> None:
        for held in (self, *self._dependents):
            held._guard.trip()
        if on_lost is not None:
            on_lost(self)

    @property
    def lost(self) -> bool:
        """Whether it is lost; once lost it stays so."""
        return bool(self._why_lost())

    def remaining(self) -> float:
        """The seconds for which it is ours even if no renewal succeeds any more; 0 if it is lost or released."""
        return 0.0 if self._is_over() or self._broken else self._validity.remaining()

    def check(self) -> None:
        """Raises LeaseLost if it is lost or released. Asks nobody, and does not wait."""
        why = self._why_lost()
        if why:
            raise LeaseLost(f"{self._what} is lost: {why}", self._broken or self._validity.problem)
        if self._is_over():
            raise LeaseLost(f"{self._what} was released")

    def _why_lost(self) -> str:
        return self._validity.why_lost() or (str(self._broken) if self._broken else "")

    def _break(self, problem: Problem) -> None:
        self._broken = problem
        self._guard.trip()

    def _is_over(self) -> bool:
        return self._ended or (self._session is not None and self._session._ended)

    def _request_to_end(self) -> Request:
        raise NotImplementedError

    def _settled(self) -> bool:
        """Notes that it has ended; False if it had already."""
        ended, self._ended = self._ended, True
        if self._keeper is not None:
            self._keeper.stop()
        return not ended

    async def release(self) -> None:
        """Ends it, so that others can have it. Raises LeaseLost if it had been lost before: then what was done under it may have been
        done beside somebody else. The second time it does nothing. It is done even if the caller is cancelled meanwhile."""
        if not self._validity.is_ours:
            self.check()
        if self._settled():
            await self._runner.finish(
                release(self._runner.settings, self._request_to_end(), self._validity, self._what, self._session is None)
            )

    async def __aenter__(self: H) -> H:
        self._guard.enter()
        if self.lost:
            self._guard.leave(None)
            await self.release()
            self.check()
        return self

    async def __aexit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        lost = self._guard.leave(error)
        if error is None:
            await self.release()
            return
        try:
            await self.release()
        except Exception as trouble:  # the error of the block says more
            log.debug("at the end of a block that raised: %s", trouble)
        if lost:
            raise LeaseLost(f"{self._what} is lost: {self._why_lost()}", self._broken or self._validity.problem) from error


class Opening(Generic[H]):
    """What acquires when it is awaited, or entered with `async with`."""

    def __init__(self, acquire: Callable[[], Awaitable[H]]) -> None:
        self._acquire = acquire
        self._held: Optional[H] = None

    def __await__(self) -> Generator[Any, Any, H]:
        return self._acquire().__await__()

    async def __aenter__(self) -> H:
        self._held = await self._acquire()
        return await self._held.__aenter__()

    async def __aexit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        assert self._held is not None
        await self._held.__aexit__(kind, error, trace)


class Lease(_Held):
    """A lock, or a set of locks, that is held. It is renewed in a task of its own."""

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

    async def hand_over(self, to: str) -> None:
        """Releases the lock to the first waiter of that owner. Raises Refused, code no_successor, if there is none; then it is kept.
        What the lock protects must have come to rest before: the successor may be at work when this returns."""
        self.check()
        s = self._runner.settings
        answered = await self._runner.finish(call(s, protocol.hand_over(self.name, self.key, to), s.patience, s.try_timeout))
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

    async def progress(self, text: str) -> None:
        """Tells how far the work is, to whoever looks at the task; renews as well. Raises LeaseLost."""
        assert self._keeping is not None
        await self._runner.run(report_progress(self._runner.settings, self.target, self.key, text, self._keeping))

    def _request_to_end(self) -> Request:
        return protocol.release(self.key)


Acquirer = Callable[[Ask, Optional[Callable[[Lease], object]], Optional[Callable[[Asked], object]]], Awaitable[Lease]]


class Session(_Held):
    """One lease for many locks: renewed as one, ended as one, and all lost together."""

    def __init__(self, runner: Runner, acquirer: Acquirer, session: str, ttl: float, validity: Validity) -> None:
        super().__init__(runner, "the session", validity)
        self.id = session
        self._acquirer, self._ttl = acquirer, ttl
        self._leases: "weakref.WeakSet[Lease]" = weakref.WeakSet()

    def lock(
        self, name: Names, *, wait: Optional[float] = None, shared: bool = False, slots: Optional[int] = None,
        owner: Optional[str] = None, metadata: Optional[str] = None, lock_delay: Optional[float] = None,
        on_wait: Optional[Callable[[Place], object]] = None,
    ) -> Opening[Lease]:  # fmt: skip
        """Acquires a lock for the session; see Client.lock. Raises Deadlock if it would wait for itself, directly or through others. A
        lock that the session holds may be acquired again; it is free when each of these was released."""

        async def acquire() -> Lease:
            self.check()
            target = protocol.lock_target(name, shared, slots)
            common = {"session": self.id, "owner": owner, "metadata": metadata, "lock_delay": lock_delay}
            lease = await self._acquirer(Ask(target, self._ttl, wait, common, on_wait, self._validity), None, None)
            self._dependents.add(lease)
            lease._session = self
            self._leases.add(lease)
            return lease

        return Opening(acquire)

    async def try_lock(
        self, name: Names, *, shared: bool = False, slots: Optional[int] = None, owner: Optional[str] = None,
        metadata: Optional[str] = None, lock_delay: Optional[float] = None,
    ) -> Optional[Lease]:  # fmt: skip
        """Acquires a lock if that is possible at once, or returns None."""
        try:
            return await self.lock(
                name, wait=0, shared=shared, slots=slots, owner=owner, metadata=metadata, lock_delay=lock_delay
            )
        except Held:
            return None

    def _review(self) -> Flow[None]:
        members = [lease._as_member() for lease in list(self._leases) if not lease._ended and lease._broken is None]
        return review(self._runner.settings, self.id, self._validity, members)

    def _request_to_end(self) -> Request:
        return protocol.end_session(self.id)


async def begin_session(
    runner: Runner, acquirer: Acquirer, ttl: float, owner: str, metadata: Optional[str],
    on_lost: Optional[Callable[[Session], object]],
) -> Session:  # fmt: skip
    """Opens a session. One that is not known to be open is ended."""
    session = protocol.new_key()
    try:
        validity = await runner.run(open_session(runner.settings, session, ttl, owner, metadata))
    except BaseException:
        await runner.finish(give_up(runner.settings, protocol.end_session(session)))
        raise
    opened = Session(runner, acquirer, session, ttl, validity)
    opened._start(protocol.renew_session(session), on_lost, None)
    assert opened._keeping is not None
    opened._keeping.review = opened._review
    return opened
