"""Following what happens: what both clients share, and the iterator of the one with threads."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any, Deque, Optional, Tuple

from . import protocol
from .errors import Refused
from .flow import Flow, Settings, call, sleep_until
from .model import MISSED, Event, EventReader
from .running import Runner
from .wire import Opened, WireError

SILENCE = 40.0
"""Seconds after which a stream is taken for dead; a living one has a comment every 15."""
PAUSE = 0.3
"""Seconds, at most, before a stream that broke is opened again."""


class Subscription:
    """What is followed, and how far."""

    def __init__(self, prefix: str, of: Optional[str], lock: Optional[str], task: Optional[str]) -> None:
        if of not in (None, "locks", "tasks"):
            raise ValueError('of is "locks" or "tasks"')
        if (lock is not None) + (task is not None) + bool(prefix or of) > 1:
            raise ValueError("either a prefix, a lock or a task is followed")
        self._about: Tuple[str, Optional[str], Optional[str], Optional[str]] = (prefix, of, lock, task)
        self._last: Optional[str] = None
        self._begun = False
        self._reader = EventReader()
        self.ready: Deque[Event] = deque()

    def open(self, s: Settings) -> Flow[Any]:
        """Opens the stream, behind what was seen of it, and returns what to read it with. Raises Unavailable and Refused."""
        if self._begun:
            yield from sleep_until(s, s.clock() + PAUSE * s.random())
        answered = yield from call(s, protocol.events(*self._about, self._last), s.patience, s.try_timeout, stream=True)
        if answered.problem is not None:
            raise Refused(answered.problem)
        if not isinstance(answered.answer, Opened):
            raise WireError("the answer is no stream")
        self._reader = EventReader()
        if self._begun and self._last is None:
            # The stream broke before its first event, so there is no place to go on from.
            detail = "The connection was lost, and events may have been. Look at the present state, and go on from here."
            self.ready.append(Event(MISSED, "", {"detail": detail}, None))
        self._begun = True
        return answered.answer.stream

    def feed(self, data: bytes) -> None:
        """Takes what the stream brought; events are in `ready` then."""
        for event in self._reader.feed(data):
            self._last = event.id or self._last
            self.ready.append(event)

    @staticmethod
    def broke(s: Settings) -> None:
        """Notes that the stream broke: another server is asked first."""
        s.first = (s.first + 1) % len(s.endpoints)


class Events:
    """An iterator over events. For one thread; `close` may be called by any, and ends the iteration."""

    def __init__(self, runner: Runner, subscription: Subscription) -> None:
        """Returns when the stream has begun: what happens from then on is in it."""
        self._runner = runner
        self._subscription = subscription
        self._closed = threading.Event()
        self._stream = runner.run(subscription.open(runner.settings))

    def __iter__(self) -> "Events":
        return self

    def __next__(self) -> Event:
        ready = self._subscription.ready
        while not ready:
            if self._closed.is_set():
                raise StopIteration
            try:
                self._subscription.feed(self._stream.read(SILENCE))
            except (OSError, WireError, ValueError):
                self._reopen()
        return ready.popleft()

    def _reopen(self) -> None:
        self._stream.close()
        if self._closed.is_set():
            return
        self._subscription.broke(self._runner.settings)
        self._stream = self._runner.run(self._subscription.open(self._runner.settings))
        if self._closed.is_set():
            self._stream.close()

    def close(self) -> None:
        self._closed.set()
        self._stream.close()

    def __enter__(self) -> "Events":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
