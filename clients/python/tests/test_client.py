"""The client with threads, on sockets, against a server that drops, hangs and talks nonsense."""

from __future__ import annotations

import os
import signal
import socket
import threading
import unittest
from typing import Any, List
from unittest import mock

import doubledutch
import doubledutch.aio
from doubledutch import Client, Held, LeaseLost, Refused, TaskFailed, Unavailable, Unknown

from .common import SOON, FakeCase, eventually, hasty, run_script
from .fake import DROP, HANG, Action, Heard, lock_server, raw, say, stream

FORKS = """
lease = dd.lock("a")
if os.fork() == 0:
    assert lease.remaining() == 0 and lease.lost
    try:
        with lease:
            pass
    except doubledutch.LeaseLost as error:
        assert "forked" in str(error), error
        with dd.lock("b"):  # the client itself can be used
            print("child", flush=True)
        sys.exit(0)
    sys.exit("the child had the lease")
assert os.wait()[1] == 0
lease.check()
lease.release()
print("parent")
"""

EVENT = b'id: %d\nevent: granted\ndata: {"name":"a","token":%d}\n\n'


def refusing_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return "http://127.0.0.1:%d" % listener.getsockname()[1]


class TransportTest(FakeCase):
    def test_a_connection_is_used_again(self) -> None:
        server = self.serve(lambda h: say(200, {"valid": True}))
        with Client(server.url) as dd:
            for _ in range(3):
                self.assertTrue(dd.verify("a", 1))
        self.assertEqual({h.connection for h in server.heard}, {1})

    def test_one_that_the_server_has_closed_is_not(self) -> None:
        server = self.serve(lambda h: say(200, {"valid": True}))
        dd = Client(server.url)
        for _ in range(3):
            self.assertTrue(dd.verify("a", 1))
            server.drop_all()
        self.assertEqual([h.connection for h in server.heard], [1, 2, 3])

    def test_one_that_breaks_at_its_second_request_is_replaced(self) -> None:
        seen: List[int] = []

        def act(h: Heard) -> Action:
            seen.append(h.connection)
            return DROP if seen.count(h.connection) == 2 else say(200, {"valid": True})

        server = self.serve(act)
        dd = Client(server.url)
        for _ in range(3):
            self.assertTrue(dd.verify("a", 1))
        self.assertEqual(seen, [1, 1, 2, 2, 3])

    def test_a_release_that_broke_a_connection_was_done(self) -> None:
        """The server has released, and ended; its successor knows nothing of the lock."""
        ends: List[int] = []

        def act(h: Heard) -> Action:
            if h.method == "POST":
                return lock_server(h)
            ends.append(h.connection)
            return DROP if len(ends) == 1 else say(404, {"code": "not_held"})

        server = self.serve(act)
        Client(server.url).lock("a", ttl=600).release()
        self.assertEqual(ends, [1, 2])

    def test_what_a_broken_connection_has_done_is_unknown(self) -> None:
        def act(h: Heard) -> Action:
            if h.path == "/v1/verify":
                return say(200, {"valid": True})
            server.close()
            return DROP

        server = self.serve(act)
        dd = Client(server.url, patience=0.5)
        dd.verify("a", 1)
        self.assertRaises(Unknown, dd.lock, "a", wait=0)
        self.assertEqual(server.paths(), ["POST /v1/verify", "POST /v1/locks/a"])

    def test_the_other_server_is_asked_with_the_same_key(self) -> None:
        good = self.serve(lock_server)
        for trouble in (DROP, HANG, raw(b"SSH-2.0\r\n\r\n"), raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"),
                        say(503, {"code": "unavailable"}), say(500, {"code": "internal"})):  # fmt: skip
            with self.subTest(trouble=trouble):
                bad = self.serve(lambda h, trouble=trouble: trouble)  # type: ignore[misc]
                del good.heard[:]
                with Client([bad.url, refusing_port(), good.url], try_timeout=0.5, patience=SOON).lock("a", wait=0):
                    pass
                self.assertEqual(bad.heard[0].body["key"], good.heard[0].body["key"])

    def test_nobody_answers(self) -> None:
        with self.assertRaises(Unavailable) as caught:
            Client([refusing_port(), refusing_port()], patience=0.5).lock("a")
        self.assertNotIsInstance(caught.exception, Unknown)

    def test_a_name_that_does_not_resolve_in_time(self) -> None:
        held = threading.Event()
        self.addCleanup(held.set)
        good = self.serve(lambda h: say(200, {"valid": True}))
        real = socket.getaddrinfo

        def slow(host: Any, *args: Any, **options: Any) -> Any:
            if host == "slow.invalid" and not options.get("flags"):
                held.wait(SOON)
            return real(host, *args, **options)

        with mock.patch("socket.getaddrinfo", slow):
            self.assertTrue(Client(["http://slow.invalid", good.url], try_timeout=0.2, patience=SOON).verify("a", 1))

    def test_the_give_up_of_what_is_unknown(self) -> None:
        now = [0.0]

        def act(h: Heard) -> Action:
            if h.method == "DELETE":
                return lock_server(h)
            now[0] += 100  # more than the patience
            return DROP

        server = self.serve(act)
        dd = Client(server.url)
        dd._settings.clock = lambda: now[0]
        with self.assertRaises(Unknown):
            dd.lock("a", wait=0)
        self.assertEqual(server.heard[-1].method, "DELETE")
        self.assertEqual(server.heard[-1].headers["lock-key"], server.heard[0].body["key"])


    def test_the_give_up_of_a_task_that_nobody_has_begun(self) -> None:
        """Released, one that is done at most once would be lost."""
        for claimed, more in ((200, []), (409, ["DELETE /v1/holds"])):
            with self.subTest(claimed=claimed):
                now = [0.0]

                def act(h: Heard, claimed: int = claimed, now: List[float] = now) -> Action:
                    if h.path == "/v1/tasks/t":
                        now[0] += 100  # more than the patience
                        return DROP
                    return say(claimed, {"status": "open"} if claimed == 200 else {"code": "not_claimant"})

                server = self.serve(act)
                dd = Client(server.url)
                dd._settings.clock = lambda now=now: now[0]  # type: ignore[misc]
                self.assertRaises(Unknown, dd.once("t", at_most_once=True)(lambda: None))
                self.assertEqual(server.paths(), ["POST /v1/tasks/t", "POST /v1/tasks/t/fail", *more])
                self.assertEqual(server.heard[1].body["key"], server.heard[0].body["key"])


class LockTest(FakeCase):
    def test_nothing_is_believed_in_after_the_release(self) -> None:
        """Another thread may still be at work."""
        dd = Client(self.serve(lock_server).url)
        lease, session = dd.lock("a", ttl=600), dd.session(ttl=600)
        of_session, released = session.lock("b"), session.lock("c")
        released.release()
        lease.release()
        of_session.check()
        session.release()
        for over in (lease, released, of_session, session):
            self.assertRaises(LeaseLost, over.check)
            self.assertEqual((over.remaining(), over.lost), (0, False))

    def test_a_block(self) -> None:
        server = self.serve(lock_server)
        with Client(server.url, owner="me", api_key="s3cret").lock("a/b", ttl=600, metadata="why", lock_delay=2) as lease:
            self.assertEqual((lease.name, lease.token, lease.lost), ("a/b", 1, False))
            self.assertTrue(500 < lease.remaining() < 594)
            lease.check()
        acquire, release = server.heard
        self.assertEqual(acquire.path, "/v1/locks/a%2Fb")
        self.assertEqual({**acquire.body, "key": ""}, {"ttl": 600, "wait": -1, "poll": 1, "owner": "me", "metadata": "why",
                                                       "lock_delay": 2, "key": ""})  # fmt: skip
        self.assertEqual((release.method, release.headers["lock-key"]), ("DELETE", lease.key))
        self.assertEqual({h.headers["authorization"] for h in server.heard}, {"Bearer s3cret"})
        for text in (repr(lease), repr(Client(server.url, api_key="s3cret"))):
            self.assertNotIn(lease.key, text)
            self.assertNotIn("s3cret", text)

    def test_no_lock(self) -> None:
        server = self.serve(lambda h: say(409, {"code": "held", "detail": "no", "holder": {"owner": "x"}}))
        dd = Client(server.url)
        self.assertIsNone(dd.try_lock("a"))
        with self.assertRaises(Held) as caught:
            dd.lock("a", wait=0)
        problem = caught.exception.problem
        self.assertEqual((problem.status, problem.code, problem.detail), (409, "held", "no"))

    def test_a_lost_lease(self) -> None:
        server = self.serve(lambda h: say(404, {"code": "not_held"}) if h.path.endswith("/renew") else lock_server(h))
        lost: List[Any] = []
        with hasty(), self.assertRaises(LeaseLost):
            with Client(server.url).lock("a", ttl=30, on_lost=lost.append) as lease:
                eventually("the callback", lambda: lost)
                self.assertIs(lost[0], lease)
                self.assertRaises(LeaseLost, lease.check)
                self.assertEqual((lease.remaining(), lease.lost), (0, True))

    def test_the_error_of_the_block_wins(self) -> None:
        server = self.serve(lambda h: say(404, {"code": "not_held"}) if h.method == "DELETE" else lock_server(h))
        with self.assertRaises(ZeroDivisionError):
            with Client(server.url).lock("a", ttl=600):
                raise ZeroDivisionError
        self.assertEqual(server.heard[-1].method, "DELETE")

    def test_a_callback_that_raises_harms_nobody(self) -> None:
        server = self.serve(lambda h: say(404, {"code": "not_held"}) if h.path.endswith("/renew") else lock_server(h))
        called = threading.Event()

        def callback(_: Any) -> None:
            called.set()
            raise ValueError("on purpose")

        with hasty(), self.assertLogs("doubledutch", "ERROR"):
            lease = Client(server.url).lock("a", ttl=30, on_lost=callback)
            self.assertTrue(called.wait(SOON))
            lease._keeper._thread.join(SOON)  # type: ignore[union-attr]

    def test_ctrl_c_gives_the_place_up(self) -> None:
        def act(h: Heard) -> Action:
            if h.method == "DELETE":
                return say(200, {"released": True})
            main = threading.main_thread().ident
            assert main is not None
            signal.pthread_kill(main, signal.SIGINT)
            return HANG

        # A shell that started this in the background may have let SIGINT be ignored.
        self.addCleanup(signal.signal, signal.SIGINT, signal.signal(signal.SIGINT, signal.default_int_handler))
        server = self.serve(act)
        with self.assertRaises(KeyboardInterrupt):
            Client(server.url, try_timeout=SOON).lock("a")
        self.assertEqual(server.paths(), ["POST /v1/locks/a", "DELETE /v1/holds"])
        self.assertEqual(server.heard[1].headers["lock-key"], server.heard[0].body["key"])

    def test_a_forked_child_has_no_lease(self) -> None:
        server = self.serve(lock_server)
        done = run_script(server.url, FORKS)
        self.assertEqual((done.returncode, done.stderr, done.stdout), (0, b"", b"child\nparent\n"))
        first, child, released, last = server.heard  # the lock of the parent, and that of the child between them
        self.assertEqual((first.path, child.path, released.method, last.method), ("/v1/locks/a", "/v1/locks/b", "DELETE", "DELETE"))
        self.assertEqual(released.headers["lock-key"], child.body["key"])
        self.assertEqual(last.headers["lock-key"], first.body["key"])

    def test_many_threads(self) -> None:
        server = self.serve(lock_server)
        dd = Client(server.url)
        failures: List[BaseException] = []

        def work() -> None:
            try:
                for _ in range(5):
                    with dd.lock("a", ttl=600):
                        pass
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work) for _ in range(10)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(SOON)
        self.assertEqual(failures, [])
        keys = [h.body["key"] for h in server.heard if h.method == "POST"]
        self.assertEqual((len(keys), len(set(keys))), (50, 50))


class TaskTest(FakeCase):
    def test_a_lost_claim(self) -> None:
        def act(h: Heard) -> Action:
            if h.path.endswith("/complete"):
                return say(409, {"code": "not_claimant"})
            return say(200, {"status": "claimed", "token": 1, "attempt": 1, "ttl": 600, "expires_in": 600, "waited": 0})

        server = self.serve(act)
        with self.assertRaises(LeaseLost):
            Client(server.url).once("t", ttl=600)(lambda: 1)()

    def test_failed(self) -> None:
        server = self.serve(lambda h: say(200, {"status": "failed", "error": "ValueError: x"}))
        with self.assertRaises(TaskFailed) as caught:
            Client(server.url).once("t")(lambda: 1)()
        self.assertEqual(caught.exception.error, "ValueError: x")

    def test_functions_of_the_wrong_kind(self) -> None:
        async def later() -> None:
            pass

        self.assertRaises(TypeError, Client("http://a").once("t"), later)
        self.assertRaises(TypeError, doubledutch.aio.Client("http://a").once("t"), lambda: 1)

    def test_nobody_has_a_claim_outside(self) -> None:
        self.assertRaises(LookupError, doubledutch.current_claim)


class EventsTest(FakeCase):
    def test_it_goes_on_where_it_broke(self) -> None:
        def act(h: Heard) -> Action:
            at = int(h.headers.get("last-event-id", "0"))
            return stream(EVENT % (at + 1, at + 1) if at < 3 else b":\n\n")

        server = self.serve(act)
        with Client(server.url).events("x") as events:
            self.assertEqual(next(events).token, 1)
            server.drop_all()
            self.assertEqual(next(events).token, 2)
            server.drop_all()
            self.assertEqual(next(events).token, 3)
            threading.Timer(0.05, events.close).start()
            self.assertEqual(list(events), [])
        self.assertEqual(server.heard[0].path, "/v1/events?prefix=x")

    def test_what_may_be_missing_is_told(self) -> None:
        first = [True]

        def act(h: Heard) -> Action:
            return stream(b"retry: 1000\n\n" if first.pop() else EVENT % (9, 9)) if first else stream(EVENT % (9, 9))

        server = self.serve(act)
        with Client(server.url).events(lock="a") as events:
            server.drop_all()
            self.assertEqual([next(events).kind, next(events).kind], ["missed", "granted"])

    def test_a_refusal(self) -> None:
        server = self.serve(lambda h: say(400, {"code": "invalid_field"}))
        self.assertRaises(Refused, Client(server.url).events)
        self.assertRaises(ValueError, Client(server.url).events, "a", of="x")
        self.assertRaises(ValueError, Client(server.url).events, "a", lock="x")


class SettingsTest(unittest.TestCase):
    def test_environment(self) -> None:
        with mock.patch.dict(os.environ, {"DOUBLEDUTCH_SERVER": "http://a:1, http://b:2", "DOUBLEDUTCH_API_KEY": "k"}):
            dd = Client()
        self.assertEqual(repr(dd), "<Client http://a:1, http://b:2>")
        self.assertEqual(dd._settings.api_key, "k")

    def test_nonsense(self) -> None:
        for options in ({"ttl": 0}, {"patience": -1}, {"try_timeout": float("nan")}, {"margin": -1}):
            self.assertRaises(ValueError, Client, "http://a", **options)
        self.assertRaises(ValueError, Client, [])


if __name__ == "__main__":
    unittest.main()
