"""A server on a socket that does to each request what a test says."""

from __future__ import annotations

import json
import socket
import threading
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Tuple


@dataclass
class Heard:
    """A request that came."""

    method: str
    path: str
    headers: Dict[str, str]
    body: Dict[str, Any]
    connection: int


Action = Tuple[str, Any]
DROP: Action = ("drop", None)
"""The connection ends without an answer, though the request was received."""
HANG: Action = ("hang", None)
"""There is no answer, and the connection stays."""


def say(status: int, members: Dict[str, Any]) -> Action:
    return ("say", (status, members))


def raw(data: bytes) -> Action:
    """Bytes, and then the end of the connection."""
    return ("raw", data)


def stream(data: bytes) -> Action:
    """The beginning of a stream that stays open."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    return ("stream", head + b"%x\r\n%s\r\n" % (len(data), data))


class FakeServer:
    """Answers with what `act` says of each request. To be closed."""

    def __init__(self, act: Callable[[Heard], Action]) -> None:
        self.act = act
        self.heard: List[Heard] = []
        self._closed = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()  # guards heard and _open
        self._open: List[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return "http://127.0.0.1:%d" % self._listener.getsockname()[1]

    def paths(self) -> List[str]:
        with self._lock:
            return [f"{h.method} {h.path}" for h in self.heard]

    def close(self) -> None:
        self._closed.set()
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._listener.close()
        self.drop_all()

    def drop_all(self) -> None:
        """Ends all connections, those on which nothing is going on included."""
        with self._lock:
            connections, self._open = self._open, []
        for connection in connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def _accept(self) -> None:
        count = 0
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._open.append(connection)
            count += 1
            threading.Thread(target=self._serve, args=(connection, count), daemon=True).start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        with connection, connection.makefile("rb") as lines:
            while True:
                try:
                    heard = self._read(lines, number)
                except OSError:
                    return
                if heard is None:
                    return
                with self._lock:
                    self.heard.append(heard)
                kind, what = self.act(heard)
                try:
                    if not self._do(connection, kind, what):
                        return
                except OSError:
                    return

    def _do(self, connection: socket.socket, kind: str, what: Any) -> bool:
        """Does what is to be done, and tells whether the connection goes on."""
        if kind == "say":
            status, members = what
            body = json.dumps(members).encode()
            connection.sendall(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body)
            return True
        if kind == "raw":
            connection.sendall(what)
        if kind == "stream":
            connection.sendall(what)
        if kind in ("stream", "hang"):
            connection.recv(1)  # until the client leaves, or drop_all
        return False

    @staticmethod
    def _read(lines: Any, number: int) -> Optional[Heard]:
        first = lines.readline().decode("latin-1").split()
        if not first:
            return None
        headers: Dict[str, str] = {}
        while True:
            name, _, value = lines.readline().decode("latin-1").strip().partition(":")
            if not name:
                break
            headers[name.lower()] = value.strip()
        body = lines.read(int(headers.get("content-length", 0)))
        return Heard(first[0], first[1], headers, json.loads(body or b"{}"), number)


def lock_server(heard: Heard) -> Action:
    """Grants everything."""
    if heard.method == "DELETE":
        return say(200, {"released": True})
    ttl = heard.body.get("ttl", 30)
    return say(200, {"key": heard.body.get("key"), "token": 1, "ttl": ttl, "expires_in": ttl, "waited": 0, "id": "x"})
