"""Until when a lease may be believed in."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Optional

from .clock import Clock
from .errors import LeaseLost, Problem

DRIFT = 0.01
"""The clocks of client and server are taken to run at rates that differ by less than this."""

FORKED = "it belongs to the process that this one was forked from"


def default_margin(ttl: float) -> float:
    """Seconds that a lease ends earlier here than it would have to: time to stop working in."""
    return min(0.5, ttl / 20)


def end_of(sent: float, expires_in: float, margin: float) -> float:
    """The moment, by the clock that gave `sent`, until which a grant or renewal may be believed in. `sent` is when the request was
    sent, and not when its answer came: that may have been under way for long."""
    return sent + expires_in * (1 - DRIFT) - margin


class Validity:
    """The time that a lease has left, which renewals extend until it is lost for good. Safe for concurrent use. A forked child has
    none: there it is lost."""

    def __init__(self, clock: Clock, sent: float, expires_in: float, margin: float) -> None:
        self._clock = clock
        self._margin = margin
        self._pid = os.getpid()
        self._lock = threading.Lock()  # guards what follows
        self._sent = sent
        self._span = expires_in
        self._end = end_of(sent, expires_in, margin)
        self._why = ""
        self._note = ""
        self._problem: Optional[Problem] = None
        _live.add(self)

    @property
    def end(self) -> float:
        return self._end

    @property
    def problem(self) -> Optional[Problem]:
        """What the server said when it was lost, if it said something."""
        return self._problem

    @property
    def is_ours(self) -> bool:
        """Whether this is the process that acquired it."""
        return self._pid == os.getpid()

    def renew_at(self, share: float) -> float:
        """The moment at which so great a share of the time since the last renewal has passed."""
        with self._lock:
            return self._sent + self._span * share

    def remaining(self) -> float:
        """Seconds left; 0 when it is lost."""
        if not self.is_ours:
            return 0.0
        with self._lock:
            return 0.0 if self._lost_locked() else self._end - self._clock()

    def why_lost(self) -> str:
        """Says why it is lost; empty if it is not. Once lost it stays so."""
        if not self.is_ours:
            return FORKED
        with self._lock:
            return self._lost_locked()

    def extend(self, sent: float, expires_in: float) -> bool:
        """Notes a renewal, and tells whether it came in time. One that comes after the end does not bring the lease back: somebody
        may have been told already that it is lost."""
        with self._lock:
            if self._lost_locked():
                return False
            if sent > self._sent:
                self._sent, self._span = sent, expires_in
                self._end = end_of(sent, expires_in, self._margin)
            return not self._lost_locked()

    def note(self, trouble: str) -> None:
        """Remembers why a renewal failed, to be told if none succeeds in time."""
        with self._lock:
            self._note = trouble

    def lose(self, why: str, problem: Optional[Problem] = None) -> None:
        """Ends it at once. The first reason stays."""
        with self._lock:
            if not self._why:
                self._why, self._problem = why, problem

    def check(self, what: str) -> None:
        """Raises LeaseLost if it is lost."""
        why = self.why_lost()
        if why:
            raise LeaseLost(f"{what} is lost: {why}", self._problem)

    def _lost_locked(self) -> str:
        if not self._why and self._clock() >= self._end:
            self._why = "it was not renewed in time" + (f" ({self._note})" if self._note else "")
        return self._why

    def renew_lock(self) -> None:
        """Replaces the lock, which another thread may have held at the fork."""
        self._lock = threading.Lock()


_live: "weakref.WeakSet[Validity]" = weakref.WeakSet()


def _after_fork() -> None:
    for validity in list(_live):
        validity.renew_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
