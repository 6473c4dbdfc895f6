"""The client for asyncio."""

from __future__ import annotations

import functools
import inspect
import ssl
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Tuple, Union, cast

from .. import protocol, tasks
from ..acquiring import Ask, Got, Place, acquire, leave
from ..errors import Held, Refused
from ..events import Subscription
from ..flow import call, log, make_settings
from ..model import LockState, lock_state
from ..protocol import Names
from ..tasks import Function, NameOf, Plan
from ..wire import Request
from .events import Events
from .lease import Asked, Claim, Lease, Opening, Session, begin_session
from .running import Runner
from .transport import Transport


class Client:
    """Speaks to a DoubleDutch server or cluster, from the tasks of one event loop at a time. Leases belong to the loop and the process
    that acquired them."""

    def __init__(
        self,
        servers: Union[str, Sequence[str], None] = None,
        *,
        api_key: Optional[str] = None,
        owner: Optional[str] = None,
        ttl: float = 30.0,
        patience: float = 15.0,
        try_timeout: float = 3.0,
        margin: Optional[float] = None,
        ssl_context: Optional[ssl.SSLContext] = None,
    ) -> None:
        """Connects to nothing yet. Times are seconds.

        servers      address of each node; without it $DOUBLEDUTCH_SERVER, else http://127.0.0.1:7333
        api_key      without it $DOUBLEDUTCH_API_KEY
        owner        who you are, for people who look; else machine and process
        ttl          how long a hold lasts without renewal, where nothing else is said
        patience     how long a call goes on without a useful answer from any server, before it raises Unavailable
        try_timeout  how long one server may take for an answer before the next is asked
        margin       how much earlier than it would have to a lease ends here; else ttl/20, at most 0.5
        """
        self._settings = make_settings(servers, api_key, owner, ttl, patience, try_timeout, margin)
        self._runner = Runner(self._settings, Transport(ssl_context))

    def lock(
        self,
        name: Names,
        *,
        ttl: Optional[float] = None,
        wait: Optional[float] = None,
        shared: bool = False,
        slots: Optional[int] = None,
        owner: Optional[str] = None,
        metadata: Optional[str] = None,
        lock_delay: Optional[float] = None,
        on_lost: Optional[Callable[[Lease], object]] = None,
        on_wait: Optional[Callable[[Place], object]] = None,
        on_asked: Optional[Callable[[Asked], object]] = None,
    ) -> Opening[Lease]:
        """Acquires a lock, or with a list of names (or Want) all of them at once: `async with dd.lock(…) as lease:`, or
        `lease = await dd.lock(…)`. Only with the former a task is cancelled when the lease is lost.

        wait        seconds to stand in the queue. None: for ever. 0: only try
        shared      together with others that want it shared
        slots       one of so many permits
        metadata    why, for people who look
        lock_delay  seconds for which the lock stays blocked if this hold expires
        on_lost     called with the lease when it is lost
        on_wait     called with the place in the queue, now and then while waiting
        on_asked    called when somebody asks the holder to make way

        Raises Held when the wait is over, Unavailable or Unknown when no server answers, Refused for what cannot be.
        """
        lifetime = self._settings.ttl if ttl is None else ttl
        common = {"ttl": lifetime, "owner": owner or self._settings.owner_now(), "metadata": metadata, "lock_delay": lock_delay}
        target = protocol.lock_target(name, shared, slots)
        return Opening(lambda: self._acquire(Ask(target, lifetime, wait, common, on_wait), on_lost, on_asked))

    async def try_lock(
        self,
        name: Names,
        *,
        ttl: Optional[float] = None,
        shared: bool = False,
        slots: Optional[int] = None,
        owner: Optional[str] = None,
        metadata: Optional[str] = None,
        lock_delay: Optional[float] = None,
        on_lost: Optional[Callable[[Lease], object]] = None,
        on_asked: Optional[Callable[[Asked], object]] = None,
    ) -> Optional[Lease]:
        """Acquires a lock if that is possible at once, or returns None. For the options see lock."""
        try:
            return await self.lock(
                name, wait=0, ttl=ttl, shared=shared, slots=slots, owner=owner, metadata=metadata, lock_delay=lock_delay,
                on_lost=on_lost, on_asked=on_asked,
            )  # fmt: skip
        except Held:
            return None

    def campaign(
        self, name: str, *, value: Optional[str] = None, ttl: float = 10.0, owner: Optional[str] = None,
        on_lost: Optional[Callable[[Lease], object]] = None, on_wait: Optional[Callable[[Place], object]] = None,
    ) -> Opening[Lease]:  # fmt: skip
        """Waits, however long it takes and whatever fails meanwhile, until it leads: `async with dd.campaign(…) as office:`. `value` is
        shown to whoever asks who leads. Leaving the block resigns."""
        common = {"ttl": ttl, "owner": owner or self._settings.owner_now(), "metadata": value}
        target = protocol.lock_target(name, False, None)
        return Opening(
            lambda: self._acquire(Ask(target, ttl, None, common, on_wait, patience=float("inf")), on_lost, None)
        )

    def session(
        self, *, ttl: Optional[float] = None, owner: Optional[str] = None, metadata: Optional[str] = None,
        on_lost: Optional[Callable[[Session], object]] = None,
    ) -> Opening[Session]:  # fmt: skip
        """Opens a session, for `async with`: one lease for many locks."""
        lifetime = self._settings.ttl if ttl is None else ttl
        who = owner or self._settings.owner_now()
        return Opening(lambda: begin_session(self._runner, self._acquire, lifetime, who, metadata, on_lost))

    def once(
        self,
        name: NameOf,
        *,
        wait: Optional[float] = None,
        keep: Optional[float] = None,
        max_attempts: Optional[int] = None,
        retry_delay: Optional[float] = None,
        at_most_once: bool = False,
        every: Optional[float] = None,
        cron: Optional[str] = None,
        zone: Optional[str] = None,
        at_least: Optional[float] = None,
        ttl: Optional[float] = None,
        metadata: Optional[str] = None,
        on_lost: Optional[Callable[[Claim], object]] = None,
        on_wait: Optional[Callable[[Place], object]] = None,
    ) -> Callable[[Function], Function]:
        """A decorator for coroutine functions: of all calls on all machines one runs the function; the others wait for it, and get its result. The result is
        what JSON keeps of it, so that all get the same. What the function raises is raised, and counts as an attempt.

        name          of the task, or a function that makes it from the arguments
        wait          seconds to wait for the result of somebody else; None: for ever
        keep          seconds that the result is kept, after which it is done again; None: for good
        max_attempts  how often it is tried; None: until it is done
        retry_delay   seconds between a failed attempt and the next
        at_most_once  never tried again unless it is known that nothing was done: raise NotDone to say so
        every         it is done once in each slot of so many seconds
        cron, zone    it is done once after each time of a cron expression, in a time zone
        at_least      seconds from the end of a run to the beginning of the next
        ttl           how long the claim of one that fell silent lasts
        on_lost       called with the claim when it is lost; the function is cancelled

        Calls raise TaskBusy when the wait is over, TaskFailed, TaskUnknown, LeaseLost if the claim was lost (somebody else may do it
        again), ResultNotKept, and what lock raises. Within the function, current_claim() is the claim.
        """
        plan = Plan(keep, max_attempts, retry_delay, at_most_once, every, cron, zone, at_least)

        def decorate(function: Function) -> Function:
            if not inspect.iscoroutinefunction(function):
                raise TypeError("the client of doubledutch.aio runs coroutine functions only: async def")

            @functools.wraps(function)
            async def do_once(*args: Any, **kwargs: Any) -> Any:
                task = tasks.name_for(name, args, kwargs)
                ask = tasks.ask_for(self._settings, task, plan, ttl, wait, metadata, on_wait)
                return await self._do_once(task, ask, plan, functools.partial(function, *args, **kwargs), on_lost)

            return cast(Function, do_once)

        return decorate

    async def show(self, name: str) -> LockState:
        """Tells who holds a lock, and who waits for it."""
        return lock_state(await self._ask(protocol.show(name)))

    async def show_task(self, name: str) -> Optional[Dict[str, Any]]:
        """Tells how a task stands, as the server says it; None if nobody has claimed it yet."""
        try:
            return await self._ask(protocol.show_task(name))
        except Refused as refused:
            if refused.problem.code == "no_task":
                return None
            raise

    async def verify(self, name: str, token: int) -> bool:
        """Whether the token is that of the newest grant of the lock, and this is held now."""
        return bool((await self._ask(protocol.verify(name, token)))["valid"])

    async def verify_all(self, tokens: Iterable[Tuple[str, int]]) -> List[bool]:
        """verify for up to 1000 pairs of name and token, in one request."""
        return protocol.valid_results(await self._ask(protocol.verify_all(tokens)))

    def events(
        self, prefix: str = "", *, of: Optional[str] = None, lock: Optional[str] = None, task: Optional[str] = None
    ) -> Events:
        """Follows what happens from now on, in all locks and tasks whose names begin with the prefix (`of`: "locks" or "tasks" only), or
        in one lock, or in one task. An asynchronous iterator; with
        `async with` it has begun when the block begins. It goes on at another server when one is lost."""
        return Events(self._runner, Subscription(prefix, of, lock, task))

    async def close(self) -> None:
        """Closes idle connections. Leases live on."""
        self._runner.transport.close()

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<Client {', '.join(map(str, self._settings.endpoints))}>"

    async def _ask(self, request: Request) -> Dict[str, Any]:
        answered = await self._runner.run(call(self._settings, request, self._settings.patience, self._settings.try_timeout))
        if answered.problem is not None:
            raise Refused(answered.problem)
        return answered.members

    async def _acquire(
        self, ask: Ask, on_lost: Optional[Callable[[Lease], object]], on_asked: Optional[Callable[[Asked], object]]
    ) -> Lease:
        got = await self._get(ask)
        lease = Lease(self._runner, ask, got)
        if ask.session is None:
            lease._start(protocol.renew(ask.target, ask.key), on_lost, on_asked)
        return lease

    async def _get(self, ask: Ask) -> Got:
        """Acquires. A cancelled wait gives its place up."""
        try:
            return await self._runner.run(acquire(self._settings, ask))
        except BaseException:
            if ask.pending:
                await self._runner.finish(leave(self._settings, ask))
            raise

    async def _do_once(
        self, name: str, ask: Ask, plan: Plan, function: Callable[[], Any], on_lost: Optional[Callable[[Claim], object]]
    ) -> Any:
        got = await self._get(ask)
        if got.validity is None:
            return tasks.outcome(name, got.members)
        claim = Claim(self._runner, name, ask.target, ask, got)
        claim._start(protocol.renew(ask.target, ask.key), on_lost, None)
        try:
            value = await self._attempt(claim, plan, function)
            if not claim._validity.is_ours:
                claim.check()  # a child that was forked within the function has nothing to report
            kept, trouble = tasks.try_encode(value)
            assert claim._keeping is not None
            report = tasks.complete(self._settings, claim.target, claim.key, kept, plan.keep, claim._keeping)
            await self._runner.finish(report)
            if trouble is not None:
                raise trouble
            return tasks.decode_result(kept)
        finally:
            claim._settled()

    async def _attempt(self, claim: Claim, plan: Plan, function: Callable[[], Any]) -> Any:
        mark = tasks.current.set(claim)
        claim._guard.enter()
        try:
            value = await function()
            claim._guard.leave(None)
            return value
        except BaseException as error:
            if claim._guard.leave(error):
                claim.check()
            try:
                if claim._validity.is_ours:
                    report = tasks.report_failure(self._settings, claim.target, claim.key, error, plan.at_most_once)
                    await self._runner.finish(report)
            except Exception as trouble:  # the claim runs out by itself
                log.debug("the failure of %r was not reported: %s", claim.name, trouble)
            raise
        finally:
            tasks.current.reset(mark)


def current_claim() -> Claim:
    """The claim on the task that is being done: for its token, attempt, check() and progress(). Raises LookupError elsewhere."""
    claim: Claim = tasks.current.get()
    return claim
