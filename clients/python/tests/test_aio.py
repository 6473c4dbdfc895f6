"""The client for asyncio: on sockets against a server that drops and hangs, and against a real one."""

from __future__ import annotations

import asyncio
import unittest
from typing import Any, Awaitable, Callable, Dict, List

from doubledutch import Held, LeaseLost, NotDone, Refused, ResultNotKept, TaskUnknown, Unavailable, Unknown
from doubledutch.aio import Client, current_claim

from .common import SOON, FakeCase, hasty
from .fake import DROP, HANG, Action, Heard, lock_server, raw, say, stream
from .server import Server, break_hold, needs_program, plain
from .test_client import EVENT, refusing_port


async def until(what: str, condition: Callable[[], Any]) -> None:
    """Returns when the condition is true, or the result of what it returns is."""

    async def poll() -> None:
        while True:
            value = condition()
            if isinstance(value, Awaitable):
                value = await value
            if value:
                return
            await asyncio.sleep(0.01)

    try:
        await asyncio.wait_for(poll(), SOON)
    except asyncio.TimeoutError:
        raise AssertionError(f"it did not come to pass: {what}") from None


def run(main: Callable[[], Any]) -> Any:
    return asyncio.run(asyncio.wait_for(main(), 2 * SOON))


def no_renewal(h: Heard) -> Action:
    return say(404, {"code": "not_held"}) if h.path.endswith("/renew") else lock_server(h)


class FakeTest(FakeCase):
    def test_a_block(self) -> None:
        server = self.serve(lock_server)

        async def main() -> None:
            async with Client(server.url, owner="me") as dd, dd.lock("a", ttl=600) as lease:
                lease.check()
                self.assertEqual(lease.token, 1)
            lease = await dd.lock("b", ttl=600)
            await lease.release()
            await lease.release()

        run(main)
        self.assertEqual(
            server.paths(), ["POST /v1/locks/a", "DELETE /v1/holds", "POST /v1/locks/b", "DELETE /v1/holds"]
        )
        self.assertEqual(server.heard[1].headers["lock-key"], server.heard[0].body["key"])
        self.assertEqual({h.connection for h in server.heard[:2]}, {1})

    def test_a_client_in_two_loops(self) -> None:
        server = self.serve(lambda h: say(200, {"valid": True}))
        dd = Client(server.url)
        for _ in range(2):
            self.assertTrue(run(lambda: dd.verify("a", 1)))

    def test_a_connection_that_the_server_has_closed(self) -> None:
        seen: List[int] = []

        def act(h: Heard) -> Action:
            seen.append(h.connection)
            return DROP if seen.count(h.connection) == 2 else say(200, {"valid": True})

        server = self.serve(act)

        async def main() -> None:
            dd = Client(server.url)
            for _ in range(3):
                self.assertTrue(await dd.verify("a", 1))

        run(main)
        self.assertEqual(seen, [1, 1, 2, 2, 3])

    def test_the_other_server_is_asked_with_the_same_key(self) -> None:
        good = self.serve(lock_server)
        for trouble in (DROP, HANG, raw(b"SSH-2.0\r\n\r\n"), say(503, {"code": "unavailable"})):
            with self.subTest(trouble=trouble):
                bad = self.serve(lambda h, trouble=trouble: trouble)  # type: ignore[misc]
                del good.heard[:]

                async def main() -> None:
                    async with Client([bad.url, refusing_port(), good.url], try_timeout=0.5, patience=SOON).lock("a", wait=0):
                        pass

                run(main)
                self.assertEqual(bad.heard[0].body["key"], good.heard[0].body["key"])

    def test_nobody_answers(self) -> None:
        now = [0.0]

        async def main(url: str) -> None:
            dd = Client(url, patience=0.3)
            if url != refusing:
                dd._settings.clock = lambda: now[0]
                dd._settings.patience = SOON
            await dd.lock("a", wait=0)

        def act(h: Heard) -> Action:
            if h.method == "DELETE":
                return lock_server(h)
            now[0] += 2 * SOON  # more than the patience
            return DROP

        refusing, server = refusing_port(), self.serve(act)
        with self.assertRaises(Unavailable) as caught:
            run(lambda: main(refusing))
        self.assertNotIsInstance(caught.exception, Unknown)
        self.assertRaises(Unknown, run, lambda: main(server.url))
        self.assertEqual(server.heard[-1].headers["lock-key"], server.heard[0].body["key"])

    def test_nothing_is_believed_in_after_the_release(self) -> None:
        """Another task may still be at work."""
        server = self.serve(lock_server)

        async def main() -> None:
            dd = Client(server.url)
            lease, session = await dd.lock("a", ttl=600), await dd.session(ttl=600)
            of_session, released = await session.lock("b"), await session.lock("c")
            await released.release()
            await lease.release()
            of_session.check()
            await session.release()
            for over in (lease, released, of_session, session):
                self.assertRaises(LeaseLost, over.check)
                self.assertEqual((over.remaining(), over.lost), (0, False))

        run(main)

    def test_a_release_that_broke_a_connection_was_done(self) -> None:
        """The server has released, and ended; its successor knows nothing of the lock."""
        ends: List[int] = []

        def act(h: Heard) -> Action:
            if h.method == "POST":
                return lock_server(h)
            ends.append(h.connection)
            return DROP if len(ends) == 1 else say(404, {"code": "not_held"})

        server = self.serve(act)

        async def main() -> None:
            lease = await Client(server.url).lock("a", ttl=600)
            await lease.release()

        run(main)
        self.assertEqual(ends, [1, 2])

    def test_a_cancelled_wait_gives_its_place_up(self) -> None:
        server = self.serve(lambda h: HANG if h.method == "POST" else say(200, {"released": True}))

        async def main() -> None:
            task = asyncio.ensure_future(Client(server.url).lock("a"))
            await until("the request", lambda: server.heard)
            task.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await task

        run(main)
        self.assertEqual(server.paths(), ["POST /v1/locks/a", "DELETE /v1/holds"])
        self.assertEqual(server.heard[1].headers["lock-key"], server.heard[0].body["key"])

    def test_a_lost_lease_cancels_the_block(self) -> None:
        server = self.serve(no_renewal)
        lost: List[Any] = []

        async def main() -> str:
            with self.assertRaises(LeaseLost) as caught:
                async with Client(server.url).lock("a", ttl=30, on_lost=lost.append) as lease:
                    try:
                        await asyncio.sleep(SOON)
                    finally:
                        self.assertTrue(lease.lost)
            self.assertIsInstance(caught.exception.__cause__, asyncio.CancelledError)
            await asyncio.sleep(0)  # the task is not cancelled any more
            return "went on"

        with hasty():
            self.assertEqual(run(main), "went on")
        self.assertEqual(len(lost), 1)

    def test_one_that_the_block_takes_no_notice_of(self) -> None:
        server = self.serve(no_renewal)

        async def main() -> None:
            with self.assertRaises(LeaseLost):
                async with Client(server.url).lock("a", ttl=30):
                    try:
                        await asyncio.sleep(SOON)
                    except asyncio.CancelledError:
                        pass
            await asyncio.sleep(0)

        with hasty():
            run(main)

    def test_a_cancellation_from_elsewhere_stays_one(self) -> None:
        server = self.serve(lock_server)

        async def block() -> None:
            async with Client(server.url).lock("a", ttl=600):
                await asyncio.sleep(SOON)

        async def main() -> None:
            task = asyncio.ensure_future(block())
            await until("the lock", lambda: server.heard)
            await asyncio.sleep(0.05)
            task.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await task

        run(main)
        self.assertEqual(server.paths()[-1], "DELETE /v1/holds")

    def test_the_error_of_the_block_wins(self) -> None:
        server = self.serve(lambda h: say(404, {"code": "not_held"}) if h.method == "DELETE" else lock_server(h))

        async def main() -> None:
            async with Client(server.url).lock("a", ttl=600):
                raise ZeroDivisionError

        self.assertRaises(ZeroDivisionError, run, main)

    def test_a_lost_session_cancels_the_blocks_of_its_locks(self) -> None:
        server = self.serve(no_renewal)

        async def block(lease: Any) -> None:
            async with lease:
                await asyncio.sleep(SOON)

        async def main() -> None:
            with self.assertRaises(LeaseLost):
                async with Client(server.url).session(ttl=30) as session:
                    other = asyncio.ensure_future(block(session.lock("b")))
                    async with session.lock("a"):
                        await asyncio.sleep(SOON)
            with self.assertRaises(LeaseLost):
                await other
            await asyncio.sleep(0)

        with hasty():
            run(main)

    def test_events_go_on_where_they_broke(self) -> None:
        def act(h: Heard) -> Action:
            at = int(h.headers.get("last-event-id", "0"))
            return stream(EVENT % (at + 1, at + 1))

        server = self.serve(act)

        async def main() -> None:
            found = []
            async for event in Client(server.url).events("x"):
                found.append(event.token)
                if len(found) == 3:
                    break
                server.drop_all()
            self.assertEqual(found, [1, 2, 3])
            self.assertEqual(server.heard[0].path, "/v1/events?prefix=x")

        run(main)


@needs_program
class ServerTest(unittest.TestCase):
    server: Server

    @classmethod
    def setUpClass(cls) -> None:
        cls.server = Server().start().await_ready()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.server.clean()

    def setUp(self) -> None:
        self.name = "aio/" + self.id().rpartition(".")[2]
        self.dd = Client(self.server.url, owner="me", ttl=600, patience=SOON)

    def test_locks(self) -> None:
        async def main() -> None:
            dd = self.dd
            async with dd.lock(self.name, metadata="why") as lease:
                state = await dd.show(self.name)
                self.assertEqual((state.holders[0].metadata, state.holders[0].token), ("why", lease.token))
                self.assertIsNone(await dd.try_lock(self.name))
                with self.assertRaises(Held):
                    async with dd.lock(self.name, wait=0.01):
                        pass
                self.assertTrue(await dd.verify(self.name, lease.token))
                waits = asyncio.ensure_future(self.first(dd.lock(self.name, owner="b")))
                await until("one waits", lambda: self.queue(1))
                with self.assertRaises(Refused):
                    await lease.hand_over("c")
                await lease.hand_over("b")
                await waits
            async with dd.lock([self.name, self.name + "b"]), dd.lock(self.name + "s", slots=2):
                pass
            self.assertFalse((await dd.show(self.name)).held)

        run(main)

    async def first(self, opening: Any) -> None:
        async with opening as lease:
            lease.check()

    async def queue(self, length: int) -> bool:
        return (await self.dd.show(self.name)).queue_length == length

    def test_a_broken_lease(self) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            with self.assertRaises(LeaseLost) as caught:
                async with self.dd.lock(self.name, ttl=30):
                    await loop.run_in_executor(None, break_hold, self.server.url, self.name.replace("/", "%2F"))
                    await asyncio.sleep(SOON)
            problem = caught.exception.problem
            assert problem is not None
            self.assertEqual(problem.code, "broken")

        with hasty():
            run(main)

    def test_a_broken_lease_of_a_session(self) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            async with self.dd.session(ttl=30) as session:
                with self.assertRaises(LeaseLost) as caught:
                    async with session.lock(self.name):
                        await loop.run_in_executor(None, break_hold, self.server.url, self.name.replace("/", "%2F"))
                        await asyncio.sleep(SOON)
                assert caught.exception.problem is not None
                self.assertEqual(caught.exception.problem.code, "broken")
                session.check()

        with hasty():
            run(main)

    def test_it_is_renewed(self) -> None:
        async def main() -> None:
            async with self.dd.lock(self.name, ttl=30) as lease:
                end = lease._validity.end
                await until("two renewals", lambda: lease._validity.end > end + 0.5)

        with hasty():
            run(main)

    def test_a_cancelled_wait(self) -> None:
        async def main() -> None:
            async with self.dd.lock(self.name):
                task = asyncio.ensure_future(self.first(self.dd.lock(self.name)))
                await until("one waits", lambda: self.queue(1))
                task.cancel()
                with self.assertRaises(asyncio.CancelledError):
                    await task
                self.assertTrue(await self.queue(0))

        run(main)

    def test_sessions_and_elections(self) -> None:
        async def main() -> None:
            async with self.dd.session() as session:
                async with session.lock(self.name):
                    again = await session.try_lock(self.name)
                    assert again is not None
                    self.assertIsNone(await self.dd.try_lock(self.name))
            async with self.dd.campaign(self.name, value="v", ttl=600):
                self.assertEqual((await self.dd.show(self.name)).holders[0].metadata, "v")

        run(main)

    def test_once(self) -> None:
        runs: List[int] = []

        @self.dd.once(lambda n: f"{self.name}-{n}")
        async def migrate(n: int) -> Dict[str, int]:
            claim = current_claim()
            await claim.progress("half")
            runs.append(claim.attempt)
            return {"n": n}

        @self.dd.once(self.name, at_most_once=True)
        async def pay() -> None:
            runs.append(0)
            raise (NotDone("closed") if runs.count(0) == 1 else ConnectionError("lost"))

        @self.dd.once(self.name + "result")
        async def odd() -> Any:
            return object()

        async def main() -> None:
            self.assertEqual(await asyncio.gather(*[migrate(4) for _ in range(5)]), [{"n": 4}] * 5)
            self.assertEqual(runs, [1])
            for kind in (NotDone, ConnectionError, TaskUnknown):
                with self.assertRaises(kind):
                    await pay()
            with self.assertRaises(ResultNotKept):
                await odd()
            self.assertIsNone(await odd())

        run(main)

    def test_a_lost_claim_cancels_the_function(self) -> None:
        @self.dd.once("aio-lost", ttl=30)
        async def work() -> None:
            path = f"/v1/tasks/aio-lost?token={current_claim().token}"
            await asyncio.get_running_loop().run_in_executor(None, plain, self.server.url, "DELETE", path)
            await asyncio.sleep(SOON)

        with hasty():
            self.assertRaises(LeaseLost, run, work)

    def test_events(self) -> None:
        async def main() -> None:
            async with self.dd.events(self.name) as events:
                async with self.dd.lock(self.name):
                    pass
                self.assertEqual([(await events.__anext__()).kind for _ in range(2)], ["granted", "released"])

        run(main)


if __name__ == "__main__":
    unittest.main()
