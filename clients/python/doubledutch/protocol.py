"""The requests of interface v1, and what its answers say. Pure functions: nothing is sent, no clock is read."""

from __future__ import annotations

import json
import secrets
import string
from dataclasses import dataclass
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple, Union
from urllib.parse import quote, urlencode

from .errors import Problem, Unknown
from .wire import Answer, Request

KEY_ALPHABET = string.digits + string.ascii_letters
KEY_LENGTH = 32
MAX_TASK_TEXT = 16 << 10  # bytes of a result, an error or a progress

Json = Dict[str, Any]


def new_key() -> str:
    """Makes a key: a secret of 32 letters and digits."""
    return "".join(secrets.choice(KEY_ALPHABET) for _ in range(KEY_LENGTH))


@dataclass(frozen=True)
class Want:
    """One lock of a set that is not wanted exclusively: shared with others, or one permit of so many slots."""

    name: str
    shared: bool = False
    slots: Optional[int] = None

    def members(self) -> Json:
        members: Json = {"name": self.name}
        if self.shared:
            members["mode"] = "shared"
        if self.slots is not None:
            members["slots"] = self.slots
        return members


Names = Union[str, Want, Sequence[Union[str, Want]]]


def segment(name: str) -> str:
    """Returns a name as a segment of a path. Raises ValueError for names that no lock can have and no path can hold."""
    if name in ("", ".", ".."):
        raise ValueError(f"no lock can have the name {name!r}")
    return quote(name, safe="")


def post(path: str, members: Mapping[str, Any]) -> Request:
    """A POST of the members that are not None."""
    body = {name: value for name, value in members.items() if value is not None}
    return Request("POST", path, json.dumps(body).encode())


@dataclass(frozen=True)
class Target:
    """What an acquire is about: a lock, a set, or a task; and where it is asked for and renewed."""

    path: str
    renew_path: str
    members: Tuple[Tuple[str, Any], ...]
    names: Tuple[str, ...]
    is_task: bool = False


def lock_target(names: Names, shared: bool, slots: Optional[int]) -> Target:
    """The target of one lock, or of a set of them."""
    if isinstance(names, (str, Want)):
        want = Want(names, shared, slots) if isinstance(names, str) else names
        path = "/v1/locks/" + segment(want.name)
        members = want.members()
        del members["name"]
        return Target(path, path + "/renew", tuple(members.items()), (want.name,))
    wants = [Want(w, shared, slots) if isinstance(w, str) else w for w in names]
    if not wants:
        raise ValueError("a set of locks needs a name at least")
    for want in wants:
        segment(want.name)
    members = {"names": [want.members() for want in wants]}
    return Target("/v1/locks", "/v1/holds/renew", tuple(members.items()), tuple(want.name for want in wants))


def task_target(name: str, members: Mapping[str, Any]) -> Target:
    """The target of a claim on a task."""
    path = "/v1/tasks/" + segment(name)
    return Target(path, path + "/renew", tuple(members.items()), (name,), True)


def acquire(target: Target, key: str, wait: float, poll: Optional[float], common: Mapping[str, Any]) -> Request:
    """Asks for a lock, a set or a task. `poll` is left out where nothing is waited for."""
    members: Json = {**dict(target.members), **common, "key": key}
    if wait:
        members["wait"], members["poll"] = wait, poll
    return post(target.path, members)


def renew(target: Target, key: str, progress: Optional[str] = None) -> Request:
    return post(target.renew_path, {"key": key, "progress": progress})


def release(key: str) -> Request:
    """Ends whatever the key stands for: a hold, a set, a place in a queue, a claim."""
    return Request("DELETE", "/v1/holds", None, (("Lock-Key", key),))


def complete(target: Target, key: str, result: str) -> Request:
    return post(target.path + "/complete", {"key": key, "result": result})


def fail(target: Target, key: str, error: str) -> Request:
    return post(target.path + "/fail", {"key": key, "error": clip(error)})


def hand_over(name: str, key: str, to: str) -> Request:
    return post(f"/v1/locks/{segment(name)}/handover", {"key": key, "to": to})


def open_session(session: str, ttl: float, owner: Optional[str], metadata: Optional[str]) -> Request:
    return post("/v1/sessions", {"id": session, "ttl": ttl, "owner": owner, "metadata": metadata})


def renew_session(session: str) -> Request:
    return post(f"/v1/sessions/{session}/renew", {})


def show_session(session: str) -> Request:
    return Request("GET", f"/v1/sessions/{session}")


def end_session(session: str) -> Request:
    return Request("DELETE", f"/v1/sessions/{session}")


def show(name: str) -> Request:
    return Request("GET", "/v1/locks/" + segment(name))


def show_task(name: str) -> Request:
    return Request("GET", "/v1/tasks/" + segment(name))


def verify(name: str, token: int) -> Request:
    return post("/v1/verify", {"name": name, "token": token})


def verify_all(tokens: Iterable[Tuple[str, int]]) -> Request:
    return post("/v1/verify", {"tokens": [{"name": name, "token": token} for name, token in tokens]})


def events(prefix: str, of: Optional[str], lock: Optional[str], task: Optional[str], last: Optional[str]) -> Request:
    """Follows everything, or one lock, or one task, from behind the event with the id `last`, or from now on."""
    if lock is not None:
        path = f"/v1/locks/{segment(lock)}/events"
    elif task is not None:
        path = f"/v1/tasks/{segment(task)}/events"
    else:
        query = {name: value for name, value in (("prefix", prefix), ("of", of)) if value}
        path = "/v1/events" + ("?" + urlencode(query) if query else "")
    headers = [("Accept", "text/event-stream")]
    if last is not None:
        headers.append(("Last-Event-ID", last))
    return Request("GET", path, None, tuple(headers))


def clip(text: str, most: int = MAX_TASK_TEXT) -> str:
    """Shortens a text to so many bytes of UTF-8, and replaces what the server does not take."""
    text = "".join(c if c in "\t\n" or c.isprintable() else " " for c in text)
    return text.encode("utf-8", "replace")[:most].decode("utf-8", "ignore")


def members_of(answer: Answer) -> Optional[Json]:
    """The JSON object of an answer, or None if it is none."""
    try:
        value = json.loads(answer.body)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def lease_of(members: Json) -> Tuple[float, float]:
    """The ttl and expires_in of a grant or renewal. Raises Unknown if they are not there: then somebody else than a DoubleDutch server
    has answered."""
    ttl, expires_in = members.get("ttl"), members.get("expires_in")
    if not isinstance(ttl, (int, float)) or not isinstance(expires_in, (int, float)):
        raise Unknown("an answer is not one of DoubleDutch: it tells no lifetime")
    return float(ttl), float(expires_in)


def problem_of(answer: Answer) -> Problem:
    """What an answer of 300 or more says; without a problem document (a proxy's page), its status says it all."""
    members = members_of(answer) or {}
    text = answer.body[:200].decode("utf-8", "replace").strip()
    return Problem(
        status=answer.status,
        code=str(members.get("code", "")),
        title=str(members.get("title", "")) or f"HTTP status {answer.status}",
        detail=str(members.get("detail", "")) if members else text,
        more=members,
    )


REPEATABLE = frozenset((408, 429, 500, 502, 503, 504, 507))
"""Statuses after which the same request should be sent again."""

HARMLESS = frozenset(("unavailable", "overloaded", "slot_passed", "disk_full", "body_timeout"))
"""Codes of those that say that nothing happened; so do all that begin with too_many."""


def nothing_happened(problem: Problem) -> bool:
    """Whether a refusal that may be repeated says that it took no effect."""
    return problem.code in HARMLESS or problem.code.startswith("too_m")


def retry_after(answer: Answer) -> float:
    """The seconds that the server wants to be left in peace; 0 if it does not say, and never more than a minute."""
    text = answer.headers.get("retry-after", "")
    return min(float(text), 60.0) if text.isdigit() else 0.0


def valid_results(members: Json) -> List[bool]:
    """The verdicts of a batch of tokens, in order."""
    return [bool(result.get("valid")) for result in members.get("results", [])]
