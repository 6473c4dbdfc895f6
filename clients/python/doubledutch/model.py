"""What the server tells of locks and events, as values."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional

from .wire import WireError


@dataclass(frozen=True)
class Holder:
    """One who holds a lock. The key is never shown."""

    token: int
    owner: str
    metadata: str
    shared: bool
    since: str
    expires_in: float


@dataclass(frozen=True)
class Waiter:
    """One who waits for a lock. `position` 1 is next."""

    position: int
    owner: str
    metadata: str
    shared: bool
    since: str


@dataclass(frozen=True)
class LockState:
    """How a lock stands. At most 1000 holders and waiters are listed; the counts are whole."""

    name: str
    held: bool
    holders: List[Holder]
    holder_count: int
    queue: List[Waiter]
    queue_length: int
    raw: Dict[str, Any] = field(repr=False)
    """Everything that the server said."""


def lock_state(members: Dict[str, Any]) -> LockState:
    holders = [
        Holder(
            h["token"], h.get("owner", ""), h.get("metadata", ""), h["mode"] == "shared", h["since"], float(h["expires_in"])
        )
        for h in members["holders"]
    ]
    queue = [
        Waiter(w["position"], w.get("owner", ""), w.get("metadata", ""), w["mode"] == "shared", w["since"])
        for w in members["queue"]
    ]
    return LockState(
        members["name"], members["held"], holders, members["holder_count"], queue, members["queue_length"], members
    )


MISSED = "missed"


@dataclass(frozen=True)
class Event:
    """Something that happened. `kind` is one of those in the OpenAPI document, such as granted, released or task_done; new ones may
    come. `missed` means that events were lost: look at the present state, and go on."""

    kind: str
    name: str
    data: Dict[str, Any]
    id: Optional[str]

    @property
    def token(self) -> Optional[int]:
        token: Optional[int] = self.data.get("token")
        return token


class EventReader:
    """Reads server-sent events from the pieces of a stream."""

    def __init__(self) -> None:
        self._rest = b""
        self._fields: Dict[str, str] = {}

    def feed(self, data: bytes) -> List[Event]:
        """Takes a piece, and returns the events that are complete with it."""
        found: List[Event] = []
        *lines, self._rest = (self._rest + data).split(b"\n")
        for raw in lines:
            line = raw.rstrip(b"\r").decode("utf-8", "replace")
            if line and not line.startswith(":"):
                name, _, value = line.partition(":")
                self._fields[name] = value[1:] if value.startswith(" ") else value
            elif not line:
                fields, self._fields = self._fields, {}
                if "event" in fields and "data" in fields:
                    found.append(_event(fields))
        return found


def _event(fields: Dict[str, str]) -> Event:
    try:
        data = json.loads(fields["data"])
    except ValueError:
        raise WireError("an event cannot be read") from None
    return Event(fields["event"], str(data.get("name", "")), data, fields.get("id"))
