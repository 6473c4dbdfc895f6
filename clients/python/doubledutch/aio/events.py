"""Following what happens, with asyncio."""

from __future__ import annotations

from typing import Any, Optional

from ..events import SILENCE, Subscription
from ..model import Event
from ..wire import WireError
from .running import Runner


class Events:
    """An asynchronous iterator over events, for one task. It begins when it is entered with `async with`, or with the first event that
    is asked for."""

    def __init__(self, runner: Runner, subscription: Subscription) -> None:
        self._runner = runner
        self._subscription = subscription
        self._stream: Optional[Any] = None
        self._closed = False

    def __aiter__(self) -> "Events":
        return self

    async def __anext__(self) -> Event:
        ready = self._subscription.ready
        while not ready:
            if self._closed:
                raise StopAsyncIteration
            if self._stream is None:
                await self._open()
                continue
            try:
                self._subscription.feed(await self._stream.read(SILENCE))
            except (OSError, TimeoutError, WireError):
                self._drop()
                self._subscription.broke(self._runner.settings)
        return ready.popleft()

    async def _open(self) -> None:
        self._stream = await self._runner.run(self._subscription.open(self._runner.settings))

    def _drop(self) -> None:
        if self._stream is not None:
            self._stream.close()
        self._stream = None

    async def close(self) -> None:
        """Ends the iteration."""
        self._closed = True
        self._drop()

    async def __aenter__(self) -> "Events":
        if self._stream is None:
            await self._open()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()
