"""What can go wrong, all under DoubleDutchError."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional


@dataclass(frozen=True)
class Problem:
    """What the server said: a problem document (RFC 9457). `code` is for programs and never changes its meaning."""

    status: int
    code: str
    title: str
    detail: str
    more: Dict[str, Any] = field(default_factory=dict)
    """The whole document, with the members that only some codes have, such as `holder` or `cycle`."""

    def __str__(self) -> str:
        return f"{self.detail or self.title} ({self.code or self.status})"


class DoubleDutchError(Exception):
    """The base of all errors of this package. `problem` is what the server said, if it said something."""

    def __init__(self, message: str, problem: Optional[Problem] = None) -> None:
        super().__init__(message)
        self.problem = problem


class Refused(DoubleDutchError):
    """The server refused the request, and repeating it would not help. See `problem`."""

    problem: Problem

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem), problem)


class Held(Refused):
    """Others hold the lock, and the wait, if any, ran out. You hold nothing, and have no place in the queue."""

    @property
    def holder(self) -> Optional[Dict[str, Any]]:
        """What the (first) holder said of itself: owner, metadata, token, since, expires_in."""
        holder: Optional[Dict[str, Any]] = self.problem.more.get("holder")
        return holder


class Deadlock(Refused):
    """The session would wait for itself. Release what it holds and begin again, or acquire a set."""

    @property
    def cycle(self) -> List[Dict[str, Any]]:
        """Who waits for whom."""
        cycle: List[Dict[str, Any]] = self.problem.more.get("cycle", [])
        return cycle


class LeaseLost(DoubleDutchError):
    """The lock is not ours any more, or cannot be shown to be ours: stop working on what it protects."""


class Unavailable(DoubleDutchError):
    """No server gave a useful answer for as long as the client's patience. Nothing was acquired."""


class Unknown(Unavailable):
    """Unavailable, and a request was on its way that may or may not have taken effect."""


class TaskBusy(DoubleDutchError):
    """The wait ran out while somebody else did the task, or before its next attempt could begin."""


class TaskFailed(DoubleDutchError):
    """The task has no attempts left. `error` is what went wrong in the last one."""

    def __init__(self, message: str, error: str) -> None:
        super().__init__(message)
        self.error = error


class TaskUnknown(DoubleDutchError):
    """An at-most-once task whose claimant was lost: a person has to find out and settle it."""


class ResultNotKept(DoubleDutchError):
    """The function ran and the task is done, but its result cannot be kept: it is not JSON, or too long."""


class NotDone(Exception):
    """For the body of an at-most-once task to raise: it did nothing, so that the task may be tried again."""
