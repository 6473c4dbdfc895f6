"""The clock that leases are counted by: it never goes back, and goes on while the machine is suspended if it can."""

from __future__ import annotations

import functools
import sys
import time
from typing import Callable, Optional

Clock = Callable[[], float]


def best_clock() -> Clock:
    """Returns the clock to use, in seconds. Linux' CLOCK_BOOTTIME is CLOCK_MONOTONIC with the time of suspension added; so is what
    macOS calls CLOCK_MONOTONIC. time.monotonic() stops during suspension on both, and a lease would seem to live on."""
    wanted = "CLOCK_MONOTONIC" if sys.platform == "darwin" else "CLOCK_BOOTTIME"
    clock_id: Optional[int] = getattr(time, wanted, None)
    if clock_id is None:
        return time.monotonic
    try:
        time.clock_gettime(clock_id)
    except OSError:
        return time.monotonic
    return functools.partial(time.clock_gettime, clock_id)
