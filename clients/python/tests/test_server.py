"""The client with threads against a real server."""

from __future__ import annotations

import asyncio
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
import unittest
from typing import Any, List
from unittest import mock

from doubledutch import Client, Deadlock, Event, Held, LeaseLost, Refused, Unavailable, Want
from doubledutch.aio import Client as AsyncClient

from .cases import Background, ServerCase
from .common import HERE, SOON, eventually, hasty, run_script
from .server import PROGRAM, Server, break_hold, needs_program, plain


@needs_program
class LockTest(ServerCase):
    def test_hold(self) -> None:
        with self.dd.lock(self.name, metadata="why") as lease:
            state = self.dd.show(self.name)
            self.assertEqual((state.held, state.holders[0].owner, state.holders[0].metadata), (True, "me", "why"))
            self.assertEqual(state.holders[0].token, lease.token)
            self.assertIsNone(self.dd.try_lock(self.name))
            with self.assertRaises(Held) as caught:
                self.dd.lock(self.name, wait=0.05)
            self.assertEqual((caught.exception.holder or {})["owner"], "me")
            self.assertTrue(self.dd.verify(self.name, lease.token))
            self.assertFalse(self.dd.verify(self.name, lease.token + 1))
        self.assertFalse(self.dd.show(self.name).held)
        self.assertFalse(self.dd.verify(self.name, lease.token))
        again = self.dd.try_lock(self.name)
        assert again is not None
        self.assertGreater(again.token, lease.token)
        again.release()
        again.release()  # does nothing

    def test_verify_all(self) -> None:
        with self.dd.lock(self.name) as lease:
            self.assertEqual(self.dd.verify_all([(self.name, lease.token), (self.name, 1 << 50)]), [True, False])

    def test_names_are_any_text(self) -> None:
        for name in ("a/b", "ü ?#%", "..."):
            with self.dd.lock(self.name + name) as lease:
                self.assertEqual(self.dd.show(lease.name).holders[0].token, lease.token)

    def test_waiting_in_slices_keeps_the_order(self) -> None:
        places: List[Any] = []
        order: List[str] = []

        def wait(who: str, **options: Any) -> None:
            with self.dd.lock(self.name, owner=who, **options) as lease:
                order.append(who)
                lease.check()

        with mock.patch("doubledutch.acquiring.LONGEST_POLL", 0.05):
            with self.dd.lock(self.name):
                first = Background(lambda: wait("first", on_wait=places.append))
                self.waiting(self.name, 1)
                second = Background(lambda: wait("second", wait=SOON))
                self.waiting(self.name, 2)
                eventually("some slices", lambda: len(places) > 3)
            first.result()
            second.result()
        self.assertEqual(order, ["first", "second"])
        self.assertEqual((places[0].position, places[-1].queue_length), (1, 2))

    def test_shared_and_slots(self) -> None:
        with self.dd.lock(self.name, shared=True), self.dd.lock(self.name, shared=True, wait=0):
            self.assertIsNone(self.dd.try_lock(self.name))
            self.assertTrue(self.dd.show(self.name).holders[0].shared)
        gpu = self.name + "gpu"
        with self.dd.lock(gpu, slots=2), self.dd.lock(gpu, slots=2, wait=0):
            self.assertIsNone(self.dd.try_lock(gpu, slots=2))
            with self.assertRaises(Refused) as caught:
                self.dd.lock(gpu, slots=3)
            self.assertEqual(caught.exception.problem.code, "mode_mismatch")

    def test_sets(self) -> None:
        a, b = self.name + "a", self.name + "b"
        with hasty(), self.dd.lock([a, Want(b, shared=True)]) as lease:
            self.assertEqual((lease.names, lease.name), ((a, b), a))
            self.assertIsNone(self.dd.try_lock(a))
            with self.dd.lock(b, shared=True, wait=0):
                pass
        self.assertFalse(self.dd.show(a).held or self.dd.show(b).held)

    def test_a_lock_delay_blocks_after_a_break(self) -> None:
        with self.assertRaises(LeaseLost), self.dd.lock(self.name, lock_delay=600):
            break_hold(self.server.url, self.name)
        self.assertIsNone(self.dd.try_lock(self.name))

    def test_a_broken_lease_is_lost(self) -> None:
        lost: List[Any] = []
        with hasty(), self.assertRaises(LeaseLost) as caught:
            with self.dd.lock(self.name, ttl=30, on_lost=lost.append) as lease:
                break_hold(self.server.url, self.name)
                eventually("the callback", lambda: lost)
                lease.check()
        problem = caught.exception.problem
        assert problem is not None
        self.assertEqual((problem.code, problem.more["by"], problem.more["reason"]), ("broken", "ops", "it hangs"))

    def test_a_loss_is_told_at_the_end_at_the_latest(self) -> None:
        with self.assertRaises(LeaseLost), self.dd.lock(self.name):
            break_hold(self.server.url, self.name)

    def test_it_is_renewed(self) -> None:
        with hasty(), self.dd.lock(self.name, ttl=30) as lease:
            end = lease._validity.end

            def lifetime() -> float:
                holder = self.dd.show(self.name).raw["holders"][0]
                return float(holder["held_for"] + holder["expires_in"])

            eventually("two renewals", lambda: lifetime() > 30.5 and lease._validity.end > end + 0.5)

    def test_no_thread_is_left(self) -> None:
        for _ in range(3):
            with self.dd.lock(self.name):
                pass
        with self.dd.session():
            pass
        eventually("they end", lambda: not [t for t in threading.enumerate() if t.name.startswith("doubledutch")])

    def test_being_asked(self) -> None:
        asked: List[Any] = []
        with hasty(), self.dd.lock(self.name, ttl=30, on_asked=asked.append) as lease:
            plain(self.server.url, "POST", f"/v1/locks/{self.name}/ask", {"reason": "new disk"})
            eventually("the callback", lambda: asked)
            assert lease.asked is not None
            self.assertEqual(lease.asked["reason"], "new disk")

    def test_handing_over(self) -> None:
        with self.dd.lock(self.name) as lease:
            with self.assertRaises(Refused):
                lease.hand_over("b")
            first = Background(lambda: self.dd.lock(self.name, owner="a"))
            self.waiting(self.name, 1)
            second = Background(lambda: self.dd.lock(self.name, owner="b"))
            self.waiting(self.name, 2)
            lease.hand_over("b")
            second.result().release()
            first.result().release()

    def test_a_try_in_vain_leaves_nothing(self) -> None:
        with self.dd.lock(self.name):
            self.assertRaises(Held, self.dd.lock, self.name, wait=0.01)
            self.assertEqual(self.dd.show(self.name).queue_length, 0)


@needs_program
class SessionTest(ServerCase):
    def test_session(self) -> None:
        with hasty(), self.dd.session(ttl=30) as session:
            with session.lock(self.name) as lease, session.lock(self.name, wait=0) as again:  # re-entrance
                self.assertEqual(lease.token, again.token)
            self.assertFalse(self.dd.show(self.name).held)
            session.lock(self.name)
            session.lock([self.name + "x", self.name + "y"])
            self.assertIsNone(self.dd.try_lock(self.name))
            session.check()
        self.assertFalse(self.dd.show(self.name).held or self.dd.show(self.name + "x").held)

    def test_deadlock(self) -> None:
        a, b = self.name + "a", self.name + "b"
        with self.dd.session(owner="one") as one, self.dd.session(owner="two") as two:
            one.lock(a)
            with two.lock(b):
                waits = Background(lambda: one.lock(b))
                self.waiting(b, 1)
                with self.assertRaises(Deadlock) as caught:
                    two.lock(a)
                self.assertEqual({step["owner"] for step in caught.exception.cycle}, {"one", "two"})
            waits.result()

    def test_a_broken_lease_of_a_session(self) -> None:
        broken, other = self.name + "-1", self.name + "-2"
        with hasty(), self.dd.session(ttl=30) as session, session.lock(other) as kept:
            with self.assertRaises(LeaseLost) as caught, session.lock(broken) as lease:
                break_hold(self.server.url, broken)
                eventually("the loss", lambda: lease.lost)
                self.assertEqual(lease.remaining(), 0)
                lease.check()
            assert caught.exception.problem is not None
            self.assertEqual(caught.exception.problem.code, "broken")
            lease = session.lock(broken)
            break_hold(self.server.url, broken)
            self.assertRaises(LeaseLost, lease.release)
            kept.check()
            session.check()

    def test_a_session_that_ended(self) -> None:
        lost: List[Any] = []
        with hasty(), self.assertRaises(LeaseLost):
            with self.dd.session(ttl=30, on_lost=lost.append) as session:
                lease = session.lock(self.name)
                plain(self.server.url, "DELETE", f"/v1/sessions/{session.id}")
                eventually("the callback", lambda: lost)
                self.assertTrue(lease.lost)
                self.assertRaises(LeaseLost, session.lock, self.name)


@needs_program
class OthersTest(ServerCase):
    def test_an_election(self) -> None:
        with self.dd.campaign(self.name, owner="one", value="http://one") as office:
            self.assertEqual(self.dd.show(self.name).holders[0].metadata, "http://one")
            next_one = Background(lambda: self.dd.campaign(self.name, owner="two", ttl=600))
            self.waiting(self.name, 1)
        after = next_one.result()
        self.assertGreater(after.token, office.token)
        after.release()

    def test_events(self) -> None:
        with self.dd.events(self.name) as events, self.dd.events(lock=self.name + "b") as of_b:
            with self.dd.lock(self.name + "a"):
                pass
            with self.dd.lock(self.name + "b") as lease:
                pass
            self.dd.once(self.name + "t")(lambda: None)()
            found: List[Event] = [next(events) for _ in range(6)]
            kinds = [f"{e.name[len(self.name):]} {e.kind}" for e in found]
            self.assertEqual(kinds, ["a granted", "a released", "b granted", "b released", "t task_claimed", "t task_done"])
            first = next(of_b)
            self.assertEqual((first.kind, first.token, first.data["owner"]), ("granted", lease.token, "me"))

    def script(self, text: str) -> Any:
        return run_script(self.server.url, f"name = {self.name!r}\n{text}")

    def test_the_end_of_the_program_releases(self) -> None:
        done = self.script("lease = dd.lock(name)\ndd.session().lock(name + 'x')\nprint(lease.token)")
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertGreater(int(done.stdout), 0)
        self.assertFalse(self.dd.show(self.name).held or self.dd.show(self.name + "x").held)

    def test_the_end_of_a_forked_child_does_not(self) -> None:
        done = self.script(
            "lease = dd.lock(name)\n"
            "if os.fork() == 0:\n    sys.exit(0)\n"
            "os.wait()\nlease.check()\nassert dd.show(name).held\nlease.release()"
        )
        self.assertEqual((done.returncode, done.stderr), (0, b""))


@needs_program
class OwnServerTest(unittest.TestCase):
    def serve(self, *flags: str, **options: Any) -> Server:
        server = Server(*flags, **options)
        self.addCleanup(server.clean)
        return server.start().await_ready()

    def test_api_key(self) -> None:
        server = self.serve(env={"DOUBLEDUTCH_API_KEY": "right"})
        with Client(server.url, api_key="right", ttl=600).lock("a"):
            pass
        with self.assertRaises(Refused) as caught:
            Client(server.url, api_key="wrong").lock("a")
        self.assertEqual(caught.exception.problem.code, "unauthorized")

    def test_tls(self) -> None:
        certs = tempfile.mkdtemp(prefix="doubledutch-python")
        self.addCleanup(shutil.rmtree, certs)
        subprocess.run([PROGRAM, "cluster", "certs", certs, "n1"], check=True, capture_output=True)
        server = self.serve("--tls-cert", f"{certs}/n1.pem", "--tls-key", f"{certs}/n1-key.pem", scheme="https")
        context = ssl.create_default_context(cafile=f"{certs}/ca.pem")
        context.check_hostname = False  # these certificates are for nodes, and have no addresses
        with Client(server.url, ttl=600, ssl_context=context) as dd, dd.lock("a") as lease:
            self.assertTrue(dd.verify("a", lease.token))

        async def main() -> None:
            async with AsyncClient(server.url, ttl=600, ssl_context=context) as dd, dd.lock("a") as lease:
                self.assertTrue(await dd.verify("a", lease.token))

        asyncio.run(main())
        for strange in (ssl.create_default_context(), None):
            eventually("it says why", lambda: self.is_distrusted(server.url, strange))

    def is_distrusted(self, url: str, context: Any) -> bool:
        with self.assertRaises(Unavailable) as caught:
            Client(url, patience=0.2, ssl_context=context).lock("a", wait=0)
        return "certificate" in str(caught.exception)

    def test_a_killed_server_comes_back(self) -> None:
        server = self.serve(volatile=False)
        dd = Client(server.url, ttl=600, patience=SOON)
        with hasty(), mock.patch("doubledutch.acquiring.LONGEST_POLL", 0.2), dd.lock("a", ttl=60) as lease:
            waits = Background(lambda: dd.lock("a", ttl=600, owner="waiter"))
            eventually("one waits", lambda: dd.show("a").queue_length == 1)
            with dd.events() as events:
                server.kill()
                server.start().await_ready()
                self.assertIn(next(events).kind, ("missed", "queued"))
            end = lease._validity.end
            eventually("a renewal", lambda: lease._validity.end > end)
            lease.check()
        after = waits.result()
        self.assertGreater(after.token, lease.token)
        after.release()

    def test_the_program_ends_without_a_server(self) -> None:
        server = self.serve()
        text = (
            f"import doubledutch, os\ndd = doubledutch.Client({server.url!r}, ttl=600)\nlease = dd.lock('a')\n"
            "print('held', flush=True)\ninput()\n"
        )
        env = {**os.environ, "PYTHONPATH": HERE}
        with subprocess.Popen([sys.executable, "-c", text], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
            assert program.stdout is not None
            self.assertEqual(program.stdout.readline(), b"held\n")
            server.kill()
            program.communicate(b"\n", timeout=SOON)
            self.assertEqual(program.returncode, 0)


if __name__ == "__main__":
    unittest.main()
