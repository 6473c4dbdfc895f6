"""Both clients over a cluster of three real nodes, of which one after the other fails."""

from __future__ import annotations

import asyncio
import signal
import unittest
from typing import Any, List
from unittest import mock

from doubledutch import Client
from doubledutch.aio import Client as AsyncClient

from .cases import Background
from .common import SOON, eventually, hasty
from .server import Cluster, Server, needs_program


@needs_program
class ClusterTest(unittest.TestCase):
    cluster: Cluster

    @classmethod
    def setUpClass(cls) -> None:
        cls.cluster = Cluster()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.cluster.clean()

    def setUp(self) -> None:
        for patch in (hasty(), mock.patch("doubledutch.acquiring.LONGEST_POLL", 0.2)):
            patch.start()
            self.addCleanup(patch.stop)

    def hurt(self, what: str) -> Server:
        leader = self.cluster.leader()
        if what == "kill":
            leader.kill()
        else:
            leader.signal(signal.SIGSTOP)
        return leader

    def heal(self, node: Server, what: str) -> None:
        if what == "kill":
            node.start()
        else:
            node.signal(signal.SIGCONT)
        node.await_ready()

    def test_threads(self) -> None:
        for what in ("kill", "stop"):
            with self.subTest(what=what):
                self.live_through(what)

    def live_through(self, what: str) -> None:
        """A lease and a place in the queue outlive the leader."""
        dd = Client(self.cluster.urls, ttl=600, patience=SOON, try_timeout=0.5)
        lost: List[Any] = []
        with dd.lock(what, ttl=60, on_lost=lost.append) as lease:
            first = Background(lambda: dd.lock(what, owner="first"))
            eventually("one waits", lambda: dd.show(what).queue_length == 1)
            second = Background(lambda: dd.lock(what, owner="second"))
            eventually("two wait", lambda: dd.show(what).queue_length == 2)
            node = self.hurt(what)
            end = lease._validity.end
            eventually("a renewal by the others", lambda: lease._validity.end > end + 1)
            self.assertEqual(dd.show(what).queue_length, 2)
        after = first.result()
        self.assertEqual(dd.show(what).holders[0].owner, "first")
        after.release()
        last = second.result()
        self.assertTrue(lease.token < after.token < last.token)
        last.release()
        self.assertEqual(lost, [])
        self.heal(node, what)

    def test_asyncio(self) -> None:
        async def live() -> None:
            dd = AsyncClient(self.cluster.urls, ttl=600, patience=SOON, try_timeout=0.5)
            async with dd, dd.lock("aio", ttl=60) as lease:
                waits = asyncio.ensure_future(dd.lock("aio"))
                while (await dd.show("aio")).queue_length != 1:
                    await asyncio.sleep(0.01)
                node = await asyncio.get_running_loop().run_in_executor(None, self.hurt, "kill")
                end = lease._validity.end
                while lease._validity.end <= end + 1:
                    await asyncio.sleep(0.01)
                lease.check()
                await lease.release()
                after = await asyncio.wait_for(waits, SOON)
                self.assertGreater(after.token, lease.token)
                await after.release()
                await asyncio.get_running_loop().run_in_executor(None, self.heal, node, "kill")

        asyncio.run(asyncio.wait_for(live(), SOON))


if __name__ == "__main__":
    unittest.main()
