"""The client of DoubleDutch, the lock service. The standard library is all that it needs.

    from doubledutch import Client

    dd = Client("http://127.0.0.1:7333")
    with dd.lock("database", ttl=30) as lease:
        write(..., token=lease.token)

For asyncio there is doubledutch.aio.
"""

from .acquiring import Place
from .client import Client, current_claim
from .errors import (
    Deadlock,
    DoubleDutchError,
    Held,
    LeaseLost,
    NotDone,
    Problem,
    Refused,
    ResultNotKept,
    TaskBusy,
    TaskFailed,
    TaskUnknown,
    Unavailable,
    Unknown,
)
from .events import Events
from .lease import Claim, Lease, Session
from .model import Event, Holder, LockState, Waiter
from .protocol import Want

__version__ = "0.1.0"

__all__ = [
    "Claim",
    "Client",
    "Deadlock",
    "DoubleDutchError",
    "Event",
    "Events",
    "Held",
    "Holder",
    "Lease",
    "LeaseLost",
    "LockState",
    "NotDone",
    "Place",
    "Problem",
    "Refused",
    "ResultNotKept",
    "Session",
    "TaskBusy",
    "TaskFailed",
    "TaskUnknown",
    "Unavailable",
    "Unknown",
    "Waiter",
    "Want",
    "current_claim",
]
