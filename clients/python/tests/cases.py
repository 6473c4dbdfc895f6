"""What the tests against real servers share."""

from __future__ import annotations

import threading
import unittest
from typing import Any, Callable, List

from doubledutch import Client

from .common import SOON, eventually
from .server import Server


class Background(threading.Thread):
    """Does something in another thread. `result` waits for it."""

    def __init__(self, function: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._function = function
        self._error: List[BaseException] = []
        self._value: Any = None
        self.start()

    def run(self) -> None:
        try:
            self._value = self._function()
        except BaseException as error:
            self._error.append(error)

    def result(self) -> Any:
        self.join(SOON)
        assert not self.is_alive(), "it hangs"
        if self._error:
            raise self._error[0]
        return self._value


class ServerCase(unittest.TestCase):
    """Tests that share a server; each uses names of its own."""

    server: Server

    @classmethod
    def setUpClass(cls) -> None:
        cls.server = Server().start().await_ready()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.server.clean()

    def setUp(self) -> None:
        self.name = self.id().rpartition(".")[2]
        self.dd = Client(self.server.url, owner="me", ttl=600, patience=SOON)
        self.addCleanup(self.dd.close)

    def waiting(self, name: str, count: int) -> None:
        eventually(f"{count} wait", lambda: self.dd.show(name).queue_length == count)
