"""What a client does, without doing it: generators that say what is to be sent and how long to sleep, and are told what came of it.
The client with threads and the one of asyncio run the same generators."""

from __future__ import annotations

import itertools
import logging
import os
import random
import socket
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Generator, Optional, Sequence, TypeVar, Union

from . import protocol
from .clock import Clock, best_clock
from .errors import Problem, Unavailable, Unknown
from .validity import default_margin
from .wire import Answer, Endpoint, Opened, Reply, Request, parse_endpoint

log = logging.getLogger("doubledutch")

T = TypeVar("T")


@dataclass(frozen=True)
class Send:
    """Send the request to the endpoint; the reply comes within so many seconds, or is Failed."""

    endpoint: Endpoint
    request: Request
    timeout: float
    stream: bool = False  # the reply to a 200 is Opened, as soon as its head has come


@dataclass(frozen=True)
class Sleep:
    """Do nothing for so many seconds."""

    seconds: float


Effect = Union[Send, Sleep]
Flow = Generator[Effect, Any, T]

NAP = 2.0
"""Nobody sleeps longer in one piece: after a suspension the clock has to be looked at soon."""

BACKOFF_FIRST, BACKOFF_MOST = 0.1, 2.0
GIVE_UP_WITHIN = 2.0
"""How long is tried to give up what was not acquired, or is held when the program ends."""


@dataclass
class Settings:
    """How a client behaves. Made once; only `first` changes."""

    endpoints: Sequence[Endpoint]
    api_key: Optional[str] = field(default=None, repr=False)
    owner: Optional[str] = None
    ttl: float = 30.0
    patience: float = 15.0
    try_timeout: float = 3.0
    margin: Optional[float] = None
    clock: Clock = field(default_factory=best_clock)
    random: Callable[[], float] = field(default_factory=lambda: random.SystemRandom().random)
    first: int = 0  # the endpoint that answered last; any thread may set it

    def margin_of(self, ttl: float) -> float:
        return default_margin(ttl) if self.margin is None else self.margin

    def owner_now(self) -> str:
        """Who asks: as the user said, or machine and process."""
        return f"{socket.gethostname()}-{os.getpid()}" if self.owner is None else self.owner


def make_settings(
    servers: Union[str, Sequence[str], None],
    api_key: Optional[str],
    owner: Optional[str],
    ttl: float,
    patience: float,
    try_timeout: float,
    margin: Optional[float],
) -> Settings:
    """Reads what a client is made with. Raises ValueError for what cannot be."""
    if servers is None:
        servers = os.environ.get("DOUBLEDUTCH_SERVER", "http://127.0.0.1:7333")
    if isinstance(servers, str):
        servers = [server.strip() for server in servers.split(",")]
    if api_key is None:
        api_key = os.environ.get("DOUBLEDUTCH_API_KEY") or None
    if not servers:
        raise ValueError("a client needs the address of a server at least")
    for name, value in (("ttl", ttl), ("patience", patience), ("try_timeout", try_timeout)):
        if not value > 0:
            raise ValueError(f"{name} must be a number of seconds greater than 0")
    if margin is not None and not margin >= 0:
        raise ValueError("margin must be a number of seconds, 0 or more")
    return Settings([parse_endpoint(s) for s in servers], api_key, owner, ttl, patience, try_timeout, margin)


@dataclass(frozen=True)
class Answered:
    """An answer about which there is no doubt."""

    answer: Answer
    members: Dict[str, Any]
    sent: float
    """When the request was sent, of the try that was answered."""
    repeated: bool
    """An earlier try may have taken effect, too."""

    @property
    def problem(self) -> Optional[Problem]:
        return protocol.problem_of(self.answer) if self.answer.status >= 300 else None


def call(
    s: Settings, request: Request, patience: float, timeout: float, backoff: float = BACKOFF_MOST, poll: float = 0.0,
    stream: bool = False,
) -> Flow[Answered]:  # fmt: skip
    """Sends a request until there is an answer, at most for `patience` seconds: to one endpoint after the other, at once, and then
    again after a pause. An endpoint that has not answered after `timeout` is left. With `poll`, a server may rightly take so much
    longer; that does not count. Raises Unavailable or Unknown."""
    give_up = s.clock() + patience
    request = _authorised(s, request)
    count = len(s.endpoints)
    unknown, pause, wait = False, 0.0, BACKOFF_FIRST
    for tries in itertools.count(1):
        at, sent = s.first % count, s.clock()
        reply: Reply = yield Send(s.endpoints[at], request, max(min(timeout, give_up - sent), 0.001) + poll, stream)
        give_up += min(s.clock() - sent, poll)
        verdict = _judge(reply)
        unknown = unknown or isinstance(reply, Answer) and reply.repeated
        if isinstance(verdict, dict):
            assert isinstance(reply, Answer)
            return Answered(reply, verdict, sent, unknown)
        unknown = unknown or verdict.unknown
        if s.first % count == at:
            s.first = (at + 1) % count
        delay, pause = verdict.pause, max(pause, verdict.pause)
        if not verdict.everywhere:
            delay = 0.0
        if tries % count == 0:
            delay, pause = max(pause, wait * (0.5 + s.random() / 2)), 0.0
            wait = min(2 * wait, backoff)
        delay = min(delay, backoff) if backoff < BACKOFF_MOST else delay
        if s.clock() + delay >= give_up:
            raise _give_up(s.endpoints[at], verdict, unknown)
        if delay:
            yield from sleep_until(s, s.clock() + delay)
    raise AssertionError("unreachable")


@dataclass(frozen=True)
class _Doubt:
    """What came back is no answer to go by."""

    why: str
    unknown: bool
    pause: float = 0.0
    everywhere: bool = False  # the pause is not for one endpoint alone
    problem: Optional[Problem] = None


def _judge(reply: Reply) -> Union[Dict[str, Any], _Doubt]:
    """Returns the members of an answer, or why there is doubt."""
    if not isinstance(reply, Answer):
        return _Doubt(reply.why, reply.sent)
    if isinstance(reply, Opened):
        return {}
    members = protocol.members_of(reply)
    if reply.status in protocol.REPEATABLE:
        problem = protocol.problem_of(reply)
        everywhere = reply.status in (429, 507)
        unknown = not protocol.nothing_happened(problem)
        return _Doubt(str(problem), unknown, protocol.retry_after(reply), everywhere, problem)
    if reply.status < 300 and members is None:
        return _Doubt("the answer is not one of DoubleDutch", True)
    return members or {}


def _give_up(endpoint: Endpoint, doubt: _Doubt, unknown: bool) -> Unavailable:
    kind = Unknown if unknown else Unavailable
    return kind(f"no server gave a useful answer; the last was {endpoint}: {doubt.why}", doubt.problem)


def _authorised(s: Settings, request: Request) -> Request:
    if s.api_key is None:
        return request
    headers = (*request.headers, ("Authorization", "Bearer " + s.api_key))
    return Request(request.method, request.path, request.body, headers)


def sleep_until(s: Settings, moment: float) -> Flow[None]:
    """Sleeps until the clock shows the moment."""
    while True:
        left = moment - s.clock()
        if left <= 0:
            return
        yield Sleep(min(left, NAP))


def notify(callback: Optional[Callable[[T], object]], what: T) -> None:
    """Calls what a user gave to be called. What it raises is logged, for nobody else could catch it."""
    if callback is None:
        return
    try:
        callback(what)
    except Exception:
        log.exception("a callback raised")
