"""Runs flows in tasks of asyncio."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Callable, Coroutine, Optional, Set, TypeVar

from ..acquiring import Keeping, keep
from ..flow import Flow, Settings, Sleep, notify
from .transport import Transport

T = TypeVar("T")
log = logging.getLogger("doubledutch")


class Runner:
    """Runs flows."""

    def __init__(self, settings: Settings, transport: Transport) -> None:
        self.settings = settings
        self.transport = transport
        self._background: Set["asyncio.Task[Any]"] = set()  # what nobody else holds on to

    async def run(self, flow: Flow[T]) -> T:
        """Runs the flow to its end, and raises what it raises."""
        reply: Any = None
        try:
            while True:
                try:
                    effect = flow.send(reply)
                except StopIteration as end:
                    value: T = end.value
                    return value
                if isinstance(effect, Sleep):
                    await asyncio.sleep(effect.seconds)
                    reply = None
                else:
                    reply = await self.transport.send(effect.endpoint, effect.request, effect.timeout, effect.stream)
        finally:
            flow.close()

    async def finish(self, flow: Flow[T]) -> T:
        """Runs the flow to its end, also if the caller is cancelled meanwhile."""
        return await asyncio.shield(self.start(self.run(flow)))

    def start(self, work: "Coroutine[Any, Any, T]") -> "asyncio.Task[T]":
        """Runs something in a task of its own."""
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        task.add_done_callback(_look_at)
        return task


def _look_at(task: "asyncio.Task[Any]") -> None:
    """Nobody may be there any more for what it raised: whoever waited for it may have been cancelled."""
    if not task.cancelled():
        task.exception()


class Keeper:
    """A task that keeps a lease alive."""

    def __init__(self, runner: Runner, keeping: Keeping, on_lost: Callable[[], object]) -> None:
        """Starts. `on_lost` is called if the lease is lost before `stop`."""
        self._runner = runner
        self._keeping = keeping
        self._on_lost = on_lost
        self._stopped = False
        self._task: Optional["asyncio.Task[None]"] = runner.start(self._run())

    def stop(self) -> None:
        """Ends the renewing. A renewal that is on its way can do no harm."""
        self._stopped = True
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        try:
            await self._runner.run(keep(self._runner.settings, self._keeping))
        except Exception as error:
            log.exception("renewing stopped")
            self._keeping.validity.lose(f"renewing failed: {error}")
        self._task = None  # whoever is told now may call stop, which must not cancel what tells it
        if not self._stopped:
            notify(lambda _: self._on_lost(), None)
