"""What the tests share."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import unittest
from typing import Any, Callable
from unittest import mock

from .fake import Action, FakeServer, Heard

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

SOON = 60.0
"""Seconds that only something that hangs will need."""


def eventually(what: str, condition: Callable[[], Any]) -> Any:
    """Returns what the condition returns, once that is true."""
    end = time.monotonic() + SOON
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"it did not come to pass: {what}")
        time.sleep(0.01)


def run_script(url: str, text: str) -> "subprocess.CompletedProcess[bytes]":
    """Runs a program that has a client `dd`."""
    head = f"import doubledutch, os, sys\ndd = doubledutch.Client({url!r}, ttl=600)\n"
    env = {**os.environ, "PYTHONPATH": HERE}
    # Python 3.12 warns of every fork beside a thread.
    argv = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", head + text]
    return subprocess.run(argv, env=env, capture_output=True, timeout=SOON)


def hasty() -> Any:
    """Lets leases be renewed after a hundredth of their lifetime, so that a test need not wait and a slow machine does no harm."""
    return mock.patch("doubledutch.acquiring.RENEW_AFTER", 0.01)


class FakeCase(unittest.TestCase):
    def serve(self, act: Callable[[Heard], Action]) -> FakeServer:
        server = FakeServer(act)
        self.addCleanup(server.close)
        return server
