"""Sends requests over blocking sockets, whose connections are kept for the next request. Used by the client with threads."""

from __future__ import annotations

import os
import select
import socket
import ssl
import threading
import time
from dataclasses import replace
from typing import Any, Dict, List, Optional, Tuple

from .wire import Answer, AnswerReader, Endpoint, Failed, Opened, Reply, Request, WireError

KEEP_IDLE = 20.0
"""Seconds after which an idle connection is not used again; the server closes them after 60."""
KEEP_COUNT = 8
"""Idle connections that are kept of an endpoint."""
RECEIVE = 64 << 10


class Connection:
    """One connection. Used by one thread at a time; `close` by any."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.idle_since = 0.0

    def send(self, data: bytes, deadline: float) -> None:
        self._sock.settimeout(_left(deadline))
        self._sock.sendall(data)

    def receive(self, deadline: float) -> bytes:
        """Returns what has come, or nothing at the end. Raises OSError, TimeoutError when the deadline has passed."""
        self._sock.settimeout(_left(deadline))
        return self._sock.recv(RECEIVE)

    def is_quiet(self) -> bool:
        """Whether nothing has come, the end of the connection included."""
        try:
            return not select.select([self._sock], [], [], 0)[0]
        except (OSError, ValueError):
            return False

    def close(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_RDWR)  # wakes a thread that reads
        except OSError:
            pass
        self._sock.close()

    def forget(self) -> None:
        """Closes this process's end and leaves the connection to the process that it was forked from."""
        self._sock.close()


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("no answer in time")
    return left


def resolve(host: str, port: int, timeout: float) -> List[Tuple[Any, ...]]:
    """Looks a host's addresses up. getaddrinfo knows no time limit, so a thread is left behind if it takes longer."""
    try:
        return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST))
    except socket.gaierror:
        pass  # a name
    found: List[Tuple[Any, ...]] = []
    errors: List[OSError] = []

    def look_up() -> None:
        try:
            found.extend(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except OSError as error:
            errors.append(error)

    thread = threading.Thread(target=look_up, name="doubledutch-resolve", daemon=True)
    try:
        thread.start()
        thread.join(timeout)
    except RuntimeError:  # no threads any more at the end of the program
        look_up()
    if errors:
        raise errors[0]
    if not found:
        raise TimeoutError(f"the name {host} was not resolved in time")
    return found


class Stream:
    """The body of an answer that goes on and on. `close` may be called by any thread."""

    def __init__(self, connection: Connection, reader: AnswerReader) -> None:
        self._connection = connection
        self._reader = reader
        self._first = reader.take_body()

    def read(self, within: float) -> bytes:
        """Returns what has come, some bytes at least. Raises OSError or WireError at the end, and when nothing comes for so long."""
        data, self._first = self._first, b""
        deadline = time.monotonic() + within
        while not data:
            if self._reader.complete:
                raise WireError("the stream ended")
            self._reader.feed(self._connection.receive(deadline))
            data = self._reader.take_body()
        return data

    def close(self) -> None:
        self._connection.close()


class Transport:
    """Sends requests and keeps connections. Safe for concurrent use, and in a forked child, which makes connections of its own."""

    def __init__(self, context: Optional[ssl.SSLContext]) -> None:
        self._context = context  # made when it is needed; both threads would make the same
        self._lock = threading.Lock()  # guards what follows
        self._idle: Dict[Endpoint, List[Connection]] = {}
        self._pid = os.getpid()

    def send(self, endpoint: Endpoint, request: Request, timeout: float, stream: bool = False) -> Reply:
        """Sends the request and returns its answer, or why there is none, within so many seconds. The answer of a stream is Opened, if
        its status is 200; the Stream in it belongs to the caller."""
        deadline = time.monotonic() + timeout
        kept = None if stream else self._take(endpoint)
        if kept is not None:
            reply = self._exchange(kept, endpoint, request, deadline)
            if isinstance(reply, Answer) or time.monotonic() >= deadline:
                return reply
            # The server may have closed the connection in this very moment; requests can be repeated without harm. Or it may have
            # begun with the request, and have ended then.
        try:
            connection = self.connect(endpoint, deadline)
        except (OSError, ValueError) as error:
            return Failed(_why(error), kept is not None)
        reply = self._exchange(connection, endpoint, request, deadline, stream)
        return replace(reply, repeated=True) if kept is not None and isinstance(reply, Answer) else reply

    def connect(self, endpoint: Endpoint, deadline: float) -> Connection:
        """Makes a new connection. Raises OSError."""
        last: Optional[OSError] = None
        addresses = resolve(endpoint.host, endpoint.port, _left(deadline))
        for at, (family, kind, proto, _, address) in enumerate(addresses):
            sock = socket.socket(family, kind, proto)
            try:
                sock.settimeout(_left(deadline) / (len(addresses) - at))
                sock.connect(address)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if endpoint.tls:
                    sock.settimeout(_left(deadline))
                    sock = self._tls().wrap_socket(sock, server_hostname=endpoint.host)
                return Connection(sock)
            except OSError as error:
                sock.close()
                last = error
            except BaseException:
                sock.close()
                raise
        assert last is not None
        raise last

    def close(self) -> None:
        """Closes the idle connections. The transport can be used again."""
        for connection in self._take_all():
            connection.close()

    def _tls(self) -> ssl.SSLContext:
        with self._lock:
            if self._context is None:
                self._context = ssl.create_default_context()
            return self._context

    def _exchange(
        self, connection: Connection, endpoint: Endpoint, request: Request, deadline: float, stream: bool = False
    ) -> Reply:
        reader = AnswerReader()
        kept = given = False
        try:
            connection.send(request.encode(endpoint), deadline)
            while not reader.complete:
                reader.feed(connection.receive(deadline))
                if stream and reader.status == 200:
                    given = True
                    return Opened(reader.status, reader.headers, b"", stream=Stream(connection, reader))
            kept = reader.reusable
            return reader.answer()
        except (OSError, WireError) as error:
            return Failed(_why(error), True)
        finally:
            if kept:
                self._put(endpoint, connection)
            elif not given:
                connection.close()

    def _take(self, endpoint: Endpoint) -> Optional[Connection]:
        with self._lock:
            self._own_locked()
            idle = self._idle.get(endpoint, [])
            while idle:
                connection = idle.pop()
                if time.monotonic() - connection.idle_since < KEEP_IDLE and connection.is_quiet():
                    return connection
                connection.close()
        return None

    def _put(self, endpoint: Endpoint, connection: Connection) -> None:
        connection.idle_since = time.monotonic()
        with self._lock:
            self._own_locked()
            idle = self._idle.setdefault(endpoint, [])
            if len(idle) < KEEP_COUNT:
                idle.append(connection)
                return
        connection.close()

    def _take_all(self) -> List[Connection]:
        with self._lock:
            self._own_locked()
            found = [connection for idle in self._idle.values() for connection in idle]
            self._idle.clear()
        return found

    def _own_locked(self) -> None:
        """Lets go of connections that are the parent's."""
        if self._pid == os.getpid():
            return
        for idle in self._idle.values():
            for connection in idle:
                connection.forget()
        self._idle, self._pid = {}, os.getpid()

    def __del__(self) -> None:
        if hasattr(self, "_pid"):
            self.close()

    def renew_lock(self) -> None:
        """Replaces the lock, which another thread may have held at the fork."""
        self._lock = threading.Lock()


def _why(error: Exception) -> str:
    if isinstance(error, (socket.timeout, TimeoutError)):
        return "no answer in time"
    return str(error) or type(error).__name__
