"""HTTP/1.1 as bytes: requests are made and answers are read here, and nothing is sent. Both clients share it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, Optional, Tuple, Union
from urllib.parse import urlsplit

MAX_HEAD = 64 << 10
MAX_BODY = 64 << 20


@dataclass(frozen=True)
class Endpoint:
    """Where a server is."""

    host: str
    port: int
    tls: bool = False
    prefix: str = ""  # path before /v1, for servers behind a proxy

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.authority}{self.prefix}"


def parse_endpoint(text: str) -> Endpoint:
    """Reads `http://host:port`, `https://…`, or `host:port`; the port is 7333 unless it is said."""
    url = urlsplit(text if "://" in text else "http://" + text)
    if url.scheme not in ("http", "https") or not url.hostname or url.username or url.query or url.fragment:
        raise ValueError(f"not the address of a server: {text!r}; it is written like http://127.0.0.1:7333")
    return Endpoint(url.hostname, url.port or 7333, url.scheme == "https", url.path.rstrip("/"))


@dataclass(frozen=True)
class Request:
    """A request, to whichever server. The same object is sent again when it has to be repeated."""

    method: str
    path: str
    body: Optional[bytes] = None
    headers: Tuple[Tuple[str, str], ...] = field(default=(), repr=False)  # they hold secrets

    def encode(self, endpoint: Endpoint) -> bytes:
        """Returns the bytes to send."""
        lines = [f"{self.method} {endpoint.prefix}{self.path} HTTP/1.1", f"Host: {endpoint.authority}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        if self.body is not None:
            lines += ["Content-Type: application/json", f"Content-Length: {len(self.body)}"]
        elif self.method != "GET":
            lines.append("Content-Length: 0")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + (self.body or b"")


@dataclass(frozen=True)
class Answer:
    """An answer, as a whole."""

    status: int
    headers: Dict[str, str]  # names in lower case
    body: bytes
    repeated: bool = False
    """The request was sent before over a connection that broke, and may have taken effect then."""


@dataclass(frozen=True)
class Opened(Answer):
    """The head of an answer of 200 whose body is a stream, and what the transport reads the rest with."""

    stream: Any = None


@dataclass(frozen=True)
class Failed:
    """There was no answer. `sent` tells whether the request may have reached a server all the same."""

    why: str
    sent: bool


Reply = Union[Answer, Failed]


class WireError(Exception):
    """What came is no HTTP answer."""


class AnswerReader:
    """Reads one answer from the bytes of a connection, in whatever pieces they come."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: Dict[str, str] = {}
        self.complete = False
        self.reusable = False  # the connection, once complete
        self._buffer = bytearray()
        self._body = bytearray()
        self._left: Optional[int] = None  # bytes of the body, or of the chunk
        self._chunked = False
        self._state = "head"

    def feed(self, data: bytes) -> None:
        """Takes what was received; no bytes mean the end of the connection."""
        if not data:
            self._end()
            return
        self._buffer += data
        while not self.complete and self._step():
            pass
        if len(self._body) > MAX_BODY:
            raise WireError("the answer is too long")

    def take_body(self) -> bytes:
        """Returns the bytes of the body that have come since the last time: for streams."""
        body = bytes(self._body)
        self._body.clear()
        return body

    def answer(self) -> Answer:
        """Returns the answer that is complete."""
        return Answer(self.status, self.headers, bytes(self._body))

    @property
    def has_head(self) -> bool:
        return self._state != "head"

    def _end(self) -> None:
        if self._state == "body" and self._left is None:
            self.complete = True
        elif not self.complete:
            raise WireError("the connection ended before the answer")

    def _step(self) -> bool:
        """Goes one step on, and tells whether there may be another."""
        if self._state == "head":
            return self._read_head()
        if self._state == "body":
            return self._read_body()
        line = self._line()
        if line is None:
            return False
        if self._state == "trailer":
            self._finish(not line)
        elif self._state == "chunk end":
            if line:
                raise WireError("a chunk does not end")
            self._state = "chunk size"
        else:
            self._begin_chunk(line)
        return True

    def _finish(self, done: bool) -> None:
        if done:
            self.complete = True
            self.reusable = self.reusable and not self._buffer

    def _begin_chunk(self, line: bytes) -> None:
        try:
            self._left = int(line.split(b";")[0], 16)
        except ValueError:
            raise WireError("a chunk has no size") from None
        if self._left < 0:
            raise WireError("a chunk has no size")
        self._state = "body" if self._left else "trailer"

    def _line(self) -> Optional[bytes]:
        end = self._buffer.find(b"\r\n")
        if end < 0:
            if len(self._buffer) > MAX_HEAD:
                raise WireError("a line is too long")
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line

    def _read_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > MAX_HEAD:
                raise WireError("the head of the answer is too long")
            return False
        lines = bytes(self._buffer[:end]).decode("latin-1").split("\r\n")
        del self._buffer[: end + 4]
        version, _, rest = lines[0].partition(" ")
        code = rest[:3]
        if not version.startswith("HTTP/1.") or not code.isdigit() or len(code) != 3:
            raise WireError("this is no HTTP answer")
        if code.startswith("1"):
            return True  # an interim answer; the real one follows
        self.status = int(code)
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if not colon:
                raise WireError("a header cannot be read")
            self.headers[name.strip().lower()] = value.strip()
        self._choose_body(version)
        return True

    def _choose_body(self, version: str) -> None:
        self.reusable = version == "HTTP/1.1" and self.headers.get("connection", "").lower() != "close"
        self._state = "body"
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            self._chunked, self._state = True, "chunk size"
        elif self.status in (204, 304):
            self._left = 0
        elif "content-length" in self.headers:
            length = self.headers["content-length"]
            if not length.isdigit() or int(length) > MAX_BODY:
                raise WireError("the answer has no usable length")
            self._left = int(length)
        else:
            self._left, self.reusable = None, False  # until the end of the connection
        if self._left == 0 and not self._chunked:
            self._finish(True)

    def _read_body(self) -> bool:
        take = len(self._buffer) if self._left is None else min(self._left, len(self._buffer))
        self._body += self._buffer[:take]
        del self._buffer[:take]
        if self._left is None:
            return False
        self._left -= take
        if self._left:
            return False
        if self._chunked:
            self._state = "chunk end"
        else:
            self._finish(True)
        return True
