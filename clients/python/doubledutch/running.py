"""Runs flows with blocking sockets and sleeping threads."""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from typing import Any, Callable, Optional, TypeVar

from .acquiring import Keeping, keep
from .flow import Flow, Settings, Sleep, notify
from .transport import Transport

T = TypeVar("T")
log = logging.getLogger("doubledutch")


class Stopped(Exception):
    """The flow was told to stop."""


class Runner:
    """Runs flows, in whichever thread calls."""

    def __init__(self, settings: Settings, transport: Transport) -> None:
        self.settings = settings
        self.transport = transport
        _runners.add(self)

    def run(self, flow: Flow[T], stop: Optional[threading.Event] = None) -> T:
        """Runs the flow to its end. Raises what it raises, and Stopped soon after `stop` is set."""
        reply: Any = None
        try:
            while True:
                try:
                    effect = flow.send(reply)
                except StopIteration as end:
                    value: T = end.value
                    return value
                if not isinstance(effect, Sleep):
                    reply = self.transport.send(effect.endpoint, effect.request, effect.timeout, effect.stream)
                elif stop is None:
                    time.sleep(effect.seconds)
                    reply = None
                else:
                    stop.wait(effect.seconds)
                    reply = None
                if stop is not None and stop.is_set():
                    raise Stopped
        finally:
            flow.close()


class Keeper:
    """A thread that keeps a lease alive. It does not keep the program alive."""

    def __init__(self, runner: Runner, keeping: Keeping, on_lost: Callable[[], object]) -> None:
        """Starts. `on_lost` is called in the thread if the lease is lost before `stop`."""
        self._runner = runner
        self._keeping = keeping
        self._on_lost = on_lost
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="doubledutch-keeper", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the renewing. Does not wait for a renewal that is on its way; it can do no harm."""
        self._stop.set()

    def _run(self) -> None:
        try:
            self._runner.run(keep(self._runner.settings, self._keeping), self._stop)
        except Stopped:
            return
        except Exception as error:
            log.exception("renewing stopped")
            self._keeping.validity.lose(f"renewing failed: {error}")
        if not self._stop.is_set():
            notify(lambda _: self._on_lost(), None)


_runners: "weakref.WeakSet[Runner]" = weakref.WeakSet()


def _after_fork() -> None:
    for runner in list(_runners):
        runner.transport.renew_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
