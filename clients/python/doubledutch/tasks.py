"""What is to be done once: what the claims of both clients share."""

from __future__ import annotations

import contextvars
import json
from dataclasses import dataclass
from typing import Any, Callable, Dict, Optional, Tuple, TypeVar, Union

from . import protocol
from .acquiring import Ask, Keeping, Place, renew_once
from .errors import LeaseLost, NotDone, Refused, ResultNotKept, TaskBusy, TaskFailed, TaskUnknown
from .flow import Flow, Settings, call
from .protocol import Target

Function = TypeVar("Function", bound=Callable[..., Any])
NameOf = Union[str, Callable[..., str]]
"""The name of a task, or what makes it from the arguments that the function is called with."""


def name_for(name: NameOf, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> str:
    return name if isinstance(name, str) else name(*args, **kwargs)


@dataclass(frozen=True)
class Plan:
    """How often and for how long something is done once. Times are seconds."""

    keep: Optional[float] = None
    max_attempts: Optional[int] = None
    retry_delay: Optional[float] = None
    at_most_once: bool = False
    every: Optional[float] = None
    cron: Optional[str] = None
    zone: Optional[str] = None
    at_least: Optional[float] = None

    def members(self) -> Dict[str, Any]:
        members: Dict[str, Any] = {
            "keep": self.keep, "max_attempts": self.max_attempts, "retry_delay": self.retry_delay, "every": self.every,
            "cron": self.cron, "zone": self.zone, "at_least": self.at_least,
        }  # fmt: skip
        if self.at_most_once:
            members["at_most_once"] = True
        return members


def ask_for(
    s: Settings, name: str, plan: Plan, ttl: Optional[float], wait: Optional[float], metadata: Optional[str],
    on_wait: Optional[Callable[[Place], object]],
) -> Ask:  # fmt: skip
    """Returns the acquire that is a claim."""
    ttl = s.ttl if ttl is None else ttl
    common = {"ttl": ttl, "owner": s.owner_now(), "metadata": metadata}
    return Ask(protocol.task_target(name, plan.members()), ttl, wait, common, on_wait)


def outcome(name: str, members: Dict[str, Any]) -> Any:
    """Returns the result of a task that somebody else has done, or raises what came of it instead."""
    status, who = members.get("status"), members.get("owner") or "somebody"
    if status == "done":
        return decode_result(members.get("result", ""))
    if status == "failed":
        error = str(members.get("error", ""))
        raise TaskFailed(f"the task {name!r} has failed, with no attempts left: {error}", error)
    if status == "unknown":
        raise TaskUnknown(f"the task {name!r} may be done only once, and {who} was lost while doing it")
    if status == "running":
        raise TaskBusy(f"the task {name!r} is being done by {who}")
    raise TaskBusy(f"the task {name!r} cannot be claimed before {members.get('claimable_in', 0)} s have passed")


def try_encode(value: Any) -> Tuple[str, Optional[ResultNotKept]]:
    """Returns the text that keeps a result, or none and why: the work is done all the same, and must be reported."""
    if value is None:
        return "", None
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        return "", ResultNotKept(f"the task is done, but its result is not JSON: {error}")
    if len(text) > protocol.MAX_TASK_TEXT:
        most = protocol.MAX_TASK_TEXT
        return "", ResultNotKept(f"the task is done, but its result has {len(text)} bytes as JSON; at most {most} are kept")
    return text, None


def decode_result(text: str) -> Any:
    """Reads a result. One that is no JSON was reported by another program, and is returned as it is."""
    if not text:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text


def complete(s: Settings, target: Target, key: str, text: str, keep: Optional[float], k: Keeping) -> Flow[None]:
    """Reports that it is done. Raises LeaseLost if the claim was lost before: then somebody else may do it, or have done it."""
    answered = yield from call(s, protocol.complete(target, key, text), s.patience, s.try_timeout)
    problem = answered.problem
    if problem is None:
        return
    if problem.code == "not_claimant" and answered.repeated and keep == 0:
        return  # the first time did it, and the record went at once
    if problem.status in (404, 409):
        k.validity.lose(str(problem), problem)
        raise LeaseLost(f"{k.what} was lost before it was reported as done: {problem}", problem)
    raise Refused(problem)


def report_failure(s: Settings, target: Target, key: str, error: BaseException, at_most_once: bool) -> Flow[None]:
    """Reports that an attempt failed. Who may try at most once and does not know that nothing was done gives the claim back as lost
    instead, so that nobody tries again before a person has looked."""
    if at_most_once and not isinstance(error, NotDone):
        request = protocol.release(key)
    else:
        request = protocol.fail(target, key, f"{type(error).__name__}: {error}")
    yield from call(s, request, s.patience, s.try_timeout)


def report_progress(s: Settings, target: Target, key: str, text: str, k: Keeping) -> Flow[None]:
    """Tells how far it is, which renews the claim. Raises LeaseLost."""
    yield from renew_once(s, k, protocol.renew(target, key, protocol.clip(text)))
    k.validity.check(k.what)


current: "contextvars.ContextVar[Any]" = contextvars.ContextVar("doubledutch-claim")
