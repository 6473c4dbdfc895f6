"""The client of DoubleDutch for asyncio.

    from doubledutch.aio import Client

    dd = Client("http://127.0.0.1:7333")
    async with dd.lock("database", ttl=30) as lease:
        await write(..., token=lease.token)

When a lease is lost, the task that is in its block is cancelled, and LeaseLost raised at the end of the block. The errors are those of
the package doubledutch.
"""

from .client import Client, current_claim
from .events import Events
from .lease import Claim, Lease, Opening, Session

__all__ = ["Claim", "Client", "Events", "Lease", "Opening", "Session", "current_claim"]
