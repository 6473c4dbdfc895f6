"""Sends requests with asyncio's streams, whose connections are kept for the next request."""

from __future__ import annotations

import asyncio
import ssl
import time
from dataclasses import replace
from typing import Any, Coroutine, Dict, List, Optional, TypeVar

from ..transport import KEEP_COUNT, KEEP_IDLE, RECEIVE
from ..wire import Answer, AnswerReader, Endpoint, Failed, Opened, Reply, Request, WireError

T = TypeVar("T")


async def within(seconds: float, work: "Coroutine[Any, Any, T]") -> T:
    """Awaits the work. Raises TimeoutError when it takes longer. Unlike wait_for in older versions of Python, it never swallows a
    cancellation that comes together with the result."""
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
    except BaseException:
        task.cancel()
        raise
    if done:
        return task.result()
    task.cancel()
    raise TimeoutError("no answer in time")


class Connection:
    """One connection, used by one task at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.idle_since = 0.0

    def is_usable(self) -> bool:
        fresh = time.monotonic() - self.idle_since < KEEP_IDLE
        return fresh and not self.reader.at_eof() and not self.writer.is_closing()

    def close(self) -> None:
        self.writer.close()


class Stream:
    """The body of an answer that goes on and on."""

    def __init__(self, connection: Connection, reader: AnswerReader) -> None:
        self._connection = connection
        self._reader = reader
        self._first = reader.take_body()

    async def read(self, seconds: float) -> bytes:
        """Returns what has come, some bytes at least. Raises OSError or WireError at the end, and when nothing comes for so long."""
        data, self._first = self._first, b""
        while not data:
            if self._reader.complete:
                raise WireError("the stream ended")
            self._reader.feed(await within(seconds, self._connection.reader.read(RECEIVE)))
            data = self._reader.take_body()
        return data

    def close(self) -> None:
        self._connection.close()


class Transport:
    """Sends requests. For one event loop at a time; in another it makes new connections."""

    def __init__(self, context: Optional[ssl.SSLContext]) -> None:
        self._context = context
        self._idle: Dict[Endpoint, List[Connection]] = {}
        self._loop: Optional[asyncio.AbstractEventLoop] = None

    async def send(self, endpoint: Endpoint, request: Request, timeout: float, stream: bool = False) -> Reply:
        """Sends the request and returns its answer, or why there is none, within so many seconds. The answer of a stream is Opened, if
        its status is 200; the Stream in it belongs to the caller."""
        progress = _Progress()
        try:
            return await within(timeout, self._send(endpoint, request, stream, progress))
        except (OSError, TimeoutError, WireError, ValueError) as error:
            return Failed(str(error) or type(error).__name__, progress.sent)

    def close(self) -> None:
        """Closes the idle connections. The transport can be used again."""
        for idle in self._idle_here().values():
            while idle:
                idle.pop().close()

    async def _send(self, endpoint: Endpoint, request: Request, stream: bool, progress: "_Progress") -> Reply:
        kept = None if stream else self._take(endpoint)
        if kept is not None:
            try:
                return await self._exchange(kept, endpoint, request, stream, progress)
            except (OSError, WireError):
                pass  # the server may have closed the connection in this very moment; requests can be repeated without harm
        reader, writer = await asyncio.open_connection(
            endpoint.host, endpoint.port, ssl=self._tls() if endpoint.tls else None, limit=RECEIVE
        )
        reply = await self._exchange(Connection(reader, writer), endpoint, request, stream, progress)
        return replace(reply, repeated=True) if kept is not None and isinstance(reply, Answer) else reply

    async def _exchange(
        self, connection: Connection, endpoint: Endpoint, request: Request, stream: bool, progress: "_Progress"
    ) -> Reply:
        reader = AnswerReader()
        kept = given = False
        try:
            progress.sent = True
            connection.writer.write(request.encode(endpoint))
            await connection.writer.drain()
            while not reader.complete:
                reader.feed(await connection.reader.read(RECEIVE))
                if stream and reader.status == 200:
                    given = True
                    return Opened(reader.status, reader.headers, b"", stream=Stream(connection, reader))
            kept = reader.reusable
            return Answer(reader.status, reader.headers, reader.take_body())
        finally:
            if kept:
                self._put(endpoint, connection)
            elif not given:
                connection.close()

    def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = ssl.create_default_context()
        return self._context

    def _idle_here(self) -> Dict[Endpoint, List[Connection]]:
        """The idle connections of the loop that runs; those of another cannot be used, nor closed."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._idle, self._loop = {}, loop
        return self._idle

    def _take(self, endpoint: Endpoint) -> Optional[Connection]:
        idle = self._idle_here().get(endpoint, [])
        while idle:
            connection = idle.pop()
            if connection.is_usable():
                return connection
            connection.close()
        return None

    def _put(self, endpoint: Endpoint, connection: Connection) -> None:
        connection.idle_since = time.monotonic()
        idle = self._idle_here().setdefault(endpoint, [])
        if len(idle) < KEEP_COUNT:
            idle.append(connection)
        else:
            connection.close()


class _Progress:
    """How far a request has come."""

    sent = False


