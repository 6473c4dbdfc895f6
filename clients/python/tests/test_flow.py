"""What is sent when, in a world without real time."""

from __future__ import annotations

import json
import sys
import time
import unittest
from typing import Any, Callable, Dict, List, Optional, Tuple
from unittest import mock

from doubledutch import protocol, tasks
from doubledutch.acquiring import Ask, Keeping, Place, acquire, keep, open_session, release
from doubledutch.clock import best_clock
from doubledutch.errors import Deadlock, Held, LeaseLost, NotDone, Refused, TaskBusy, TaskFailed, TaskUnknown, Unavailable, Unknown
from doubledutch.flow import Send, call
from doubledutch.model import EventReader
from doubledutch.validity import Validity
from doubledutch.wire import Answer, Failed

from .sim import World, answer, problem, settings

GRANT = {"token": 7, "ttl": 30.0, "expires_in": 30.0, "waited": 0}
Sent = Tuple[float, str, Dict[str, Any], Dict[str, Any]]  # when, to which endpoint, what, and headers


class FlowTest(unittest.TestCase):
    def setUp(self) -> None:
        self.world = World(1)
        self.sent: List[Sent] = []

    def script(self, *replies: Any, delay: float = 0.0) -> None:
        """The network answers with these, one after the other; a number before one is the delay of it. The last one stays."""
        left = list(replies)

        def network(effect: Send, reply: Callable[[Any], None]) -> None:
            body = json.loads(effect.request.body or b"{}")
            self.sent.append((self.world.now, effect.endpoint.host, body, dict(effect.request.headers)))
            what = left.pop(0) if len(left) > 1 else left[0]
            late, what = what if isinstance(what, tuple) else (delay, what)
            if what is not None:
                self.world.at(self.world.now + late, lambda: reply(what))

        self.world.network = network

    def settings(self, nodes: int = 2, **options: Any) -> Any:
        return settings(self.world.clock, self.world.rng, nodes, **options)

    def ask(self, wait: Optional[float] = None, **options: Any) -> Ask:
        return Ask(protocol.lock_target("db", False, None), 30.0, wait, {"ttl": 30.0}, **options)

    def times(self) -> List[float]:
        return [when for when, _, _, _ in self.sent]

    # What is sent again, and to whom.

    def test_the_next_server_is_asked_at_once(self) -> None:
        self.script(Failed("refused", False), answer(200, {}))
        answered = self.world.result(call(self.settings(), protocol.show("a"), 10, 5))
        self.assertEqual([host for _, host, _, _ in self.sent], ["n0", "n1"])
        self.assertEqual((self.times(), answered.repeated), ([0, 0], False))

    def test_one_that_is_silent_is_left(self) -> None:
        self.script(None, answer(200, {}))
        answered = self.world.result(call(self.settings(), protocol.show("a"), 10, 5))
        self.assertEqual(self.times(), [0, 5])
        self.assertEqual((answered.sent, answered.repeated), (5, True))

    def test_the_server_that_answered_is_asked_first(self) -> None:
        self.script(Failed("refused", False), answer(200, {}))
        s = self.settings()
        for _ in range(3):
            self.world.result(call(s, protocol.show("a"), 10, 5))
        self.assertEqual([host for _, host, _, _ in self.sent], ["n0", "n1", "n1", "n1"])

    def test_pauses_grow_and_retry_after_is_kept(self) -> None:
        busy = problem(503, "unavailable")
        self.script(busy, Answer(503, {"retry-after": "3"}, busy.body), busy, busy, answer(200, {}))
        self.world.result(call(self.settings(), protocol.show("a"), 60, 5))
        first, second, third, fourth, _ = self.times()
        self.assertEqual((first, second, third), (0, 0, 3))
        self.assertEqual(fourth, 3)

    def test_a_limit_of_the_cluster_is_not_asked_around(self) -> None:
        full = Answer(429, {"retry-after": "5"}, b'{"code":"too_many_locks"}')
        self.script(full, answer(200, {}))
        self.world.result(call(self.settings(), protocol.show("a"), 60, 5))
        self.assertEqual(self.times(), [0, 5])

    def test_patience_ends(self) -> None:
        self.script(Failed("refused", False))
        with self.assertRaises(Unavailable) as caught:
            self.world.result(call(self.settings(), protocol.show("a"), 10, 5))
        self.assertNotIsInstance(caught.exception, Unknown)
        self.assertTrue(7 < self.world.now < 10)
        self.assertLess(len(self.sent), 40)

    def test_what_may_have_happened_is_unknown(self) -> None:
        for doubt in (problem(503, "unknown"), Failed("reset", True), Answer(502, {}, b"<html>"), Answer(200, {}, b"<html>")):
            self.setUp()
            self.script(doubt, Failed("refused", False))
            with self.assertRaises(Unknown):
                self.world.result(call(self.settings(), protocol.show("a"), 10, 5))

    def test_what_cannot_be_is_not_repeated(self) -> None:
        self.script(problem(401, "unauthorized"))
        self.assertEqual(self.world.result(call(self.settings(), protocol.show("a"), 10, 5)).problem.code, "unauthorized")
        self.assertEqual(len(self.sent), 1)

    def test_the_api_key_is_sent(self) -> None:
        self.script(answer(200, {}))
        self.world.result(call(self.settings(api_key="secret"), protocol.release("k"), 10, 5))
        self.assertEqual(self.sent[0][3], {"Lock-Key": "k", "Authorization": "Bearer secret"})

    # Acquiring.

    def test_a_try_does_not_wait(self) -> None:
        self.script(problem(409, "held", holder={"owner": "x"}))
        ask = self.ask(0)
        with self.assertRaises(Held) as caught:
            self.world.result(acquire(self.settings(), ask))
        self.assertEqual(self.sent[0][2], {"ttl": 30.0, "key": ask.key})
        self.assertEqual((caught.exception.holder, ask.pending), ({"owner": "x"}, False))

    def test_a_wait_goes_in_slices_with_one_key(self) -> None:
        places: List[Place] = []
        waiting = answer(202, {"waiting": True, "position": 2, "queue_length": 3, "waited": 10})
        self.script((1, waiting), (2, waiting), (4, waiting), (5, waiting), (5, waiting), (3, problem(409, "held")))
        with self.assertRaises(Held):
            self.world.result(acquire(self.settings(), self.ask(20, on_wait=places.append)))
        self.assertEqual(self.times(), [0, 1, 3, 7, 12, 17])
        self.assertEqual([body["wait"] for _, _, body, _ in self.sent], [20, 19, 17, 13, 8, 3])
        self.assertEqual([body["poll"] for _, _, body, _ in self.sent], [1, 2, 4, 5, 5, 5])
        self.assertEqual(len({body["key"] for _, _, body, _ in self.sent}), 1)
        self.assertEqual(places[0], Place(2, 3, 10, None))

    def test_the_end_of_the_wait_gives_the_place_up(self) -> None:
        self.script((1, answer(202, {"waiting": True})), problem(409, "held"))
        with self.assertRaises(Held):
            self.world.result(acquire(self.settings(), self.ask(1)))
        self.assertNotIn("wait", self.sent[1][2])

    def test_a_server_that_ends_the_wait_before_its_time(self) -> None:
        self.script(problem(409, "held"))
        with self.assertRaises(Held):
            self.world.result(acquire(self.settings(), self.ask(0.15)))
        self.assertEqual([body.get("wait", 0) > 0 for _, _, body, _ in self.sent], [True, True, False])

    def test_waiting_for_ever(self) -> None:
        self.script((1, answer(202, {"waiting": True})), answer(200, GRANT))
        got = self.world.result(acquire(self.settings(), self.ask(None)))
        self.assertEqual([body["wait"] for _, _, body, _ in self.sent], [-1, -1])
        self.assertAlmostEqual(got.validity.end, 1 + 29.7 - 0.5)

    def test_an_answer_that_took_long_is_renewed_first(self) -> None:
        self.script((14.8, answer(200, GRANT)), (0.1, answer(200, {"ttl": 30, "expires_in": 30})))
        got = self.world.result(acquire(self.settings(try_timeout=20), self.ask(None)))
        self.assertEqual(len(self.sent), 2)
        self.assertAlmostEqual(got.validity.end, 14.8 + 29.7 - 0.5)

    def test_servers_that_are_too_slow_for_the_ttl(self) -> None:
        self.script(answer(200, {"token": 7, "ttl": 2, "expires_in": 2, "waited": 0}), delay=1.5)
        ask = self.ask(None)
        self.assertRaises(Unavailable, self.world.result, acquire(self.settings(), ask))
        self.assertTrue(ask.pending)
        self.assertEqual(len(self.sent), 4)

    def test_one_that_is_gone_by_then_is_acquired_anew(self) -> None:
        self.script((14.9, answer(200, GRANT)), problem(404, "not_held"), answer(200, {**GRANT, "token": 9}))
        got = self.world.result(acquire(self.settings(try_timeout=20), self.ask(None)))
        keys = [body["key"] for _, _, body, _ in self.sent]
        self.assertEqual(got.members["token"], 9)
        self.assertEqual(keys[0], keys[1])
        self.assertNotEqual(keys[1], keys[2])

    def test_a_spent_key_is_replaced(self) -> None:
        for code in ("key_spent", "cancelled", "broken"):
            self.setUp()
            self.script(Failed("reset", True), problem(409, code), answer(200, GRANT))
            self.world.result(acquire(self.settings(), self.ask(0)))
            keys = [body["key"] for _, _, body, _ in self.sent]
            self.assertEqual((keys[0] == keys[1], keys[1] == keys[2]), (True, False))

    def test_a_try_does_not_use_up_keys_for_ever(self) -> None:
        self.script(problem(409, "key_spent"))
        with self.assertRaises(Refused):
            self.world.result(acquire(self.settings(), self.ask(0)))
        self.assertEqual(len(self.sent), 3)

    def test_a_server_that_is_silent_while_it_may_be_is_left_later(self) -> None:
        self.script(None, None, answer(200, GRANT))
        self.world.result(acquire(self.settings(), self.ask(None)))
        self.assertEqual(self.times()[:2], [0, 4])
        self.assertAlmostEqual(self.times()[2], 8, delta=0.11)

    def test_nonsense_is_no_grant(self) -> None:
        for nonsense in (answer(200, {}), answer(200, {"ttl": "x", "expires_in": 3})):
            self.setUp()
            self.script(nonsense)
            ask = self.ask(0)
            self.assertRaises(Unknown, self.world.result, acquire(self.settings(), ask))
            self.assertTrue(ask.pending)
            valid = self.valid()
            self.world.result(keep(self.settings(), self.keeping(valid)))
            self.assertIn("not one of DoubleDutch", valid.why_lost())
        self.script(Answer(302, {"location": "x"}, b""))
        self.assertRaises(Refused, self.world.result, acquire(self.settings(), self.ask(0)))
        self.assertRaises(ValueError, self.world.result, acquire(self.settings(), self.ask(-1)))

    def test_a_deadlock_is_told(self) -> None:
        self.script(problem(409, "deadlock", cycle=[{"owner": "b"}]))
        with self.assertRaises(Deadlock) as caught:
            self.world.result(acquire(self.settings(), self.ask(None)))
        self.assertEqual(caught.exception.cycle, [{"owner": "b"}])

    def test_what_may_have_been_acquired_is_known(self) -> None:
        ask = self.ask(0)
        self.script(Failed("refused", False))
        self.assertRaises(Unavailable, self.world.result, acquire(self.settings(), ask))
        self.assertFalse(ask.pending)
        self.script(Failed("reset", True))
        self.assertRaises(Unknown, self.world.result, acquire(self.settings(), ask))
        self.assertTrue(ask.pending)

    def test_a_session_that_is_gone(self) -> None:
        self.script(answer(200, {"id": "s", "ttl": 30, "expires_in": 30}), problem(404, "no_session"))
        s = self.settings()
        session = self.world.result(open_session(s, "s", 30, "me", None))
        self.assertRaises(LeaseLost, self.world.result, acquire(s, self.ask(None, session=session)))
        self.assertTrue(session.why_lost())
        self.assertRaises(LeaseLost, self.world.result, acquire(s, self.ask(None, session=session)))
        self.assertEqual(len(self.sent), 2)

    # Keeping and releasing.

    def valid(self, expires_in: float = 30.0) -> Validity:
        return Validity(self.world.clock, self.world.now, expires_in, 0.5)

    def keeping(self, valid: Validity, **options: Any) -> Keeping:
        ask = self.ask()
        return Keeping("db", valid, protocol.renew(ask.target, ask.key), **options)

    def test_renewals_come_at_a_third(self) -> None:
        self.script(answer(200, {"ttl": 30, "expires_in": 30}))
        self.world.start(keep(self.settings(), self.keeping(self.valid())))
        self.world.run(300)
        gaps = [b - a for a, b in zip(self.times(), self.times()[1:])]
        self.assertTrue(all(8.5 <= gap <= 10.001 for gap in gaps) and len(set(gaps)) > 20, gaps)

    def test_a_renewal_tries_until_the_end(self) -> None:
        self.script(Failed("refused", False))
        valid = self.valid()
        self.world.result(keep(self.settings(), self.keeping(valid)), until=100)
        self.assertAlmostEqual(self.world.now, valid.end, delta=0.1)
        self.assertGreater(max(self.times()), valid.end - 2)
        self.assertIn("refused", valid.why_lost())

    def test_a_late_success_is_enough(self) -> None:
        valid = self.valid()
        self.script(*[(5, None)] * 3, answer(200, {"ttl": 30, "expires_in": 30}))
        self.world.start(keep(self.settings(), self.keeping(valid)))
        self.world.run(35)
        self.assertEqual(valid.why_lost(), "")

    def test_the_server_says_that_it_is_gone(self) -> None:
        for gone in (problem(404, "not_held"), problem(409, "broken", by="ops", reason="x")):
            self.setUp()
            self.script(gone)
            valid = self.valid()
            self.world.result(keep(self.settings(), self.keeping(valid)))
            self.assertLess(self.world.now, 10.1)
            assert valid.problem is not None
            self.assertEqual(valid.problem.status, gone.status)

    def test_a_refusal_that_says_nothing_about_the_hold(self) -> None:
        self.script(*[problem(401, "unauthorized")] * 5, answer(200, {"ttl": 30, "expires_in": 30}))
        valid = self.valid()
        self.world.start(keep(self.settings(), self.keeping(valid)))
        self.world.run(40)
        self.assertEqual(valid.why_lost(), "")

    def test_what_is_asked_is_told_once(self) -> None:
        told: List[Dict[str, Any]] = []
        asked = {"reason": "disk", "since": "2026-11-25T00:00:00Z", "due_in": 50}
        self.script(answer(200, {"ttl": 30, "expires_in": 30, "asked": asked}))
        self.world.start(keep(self.settings(), self.keeping(self.valid(), on_asked=told.append)))
        self.world.run(60)
        self.assertEqual([t["reason"] for t in told], ["disk"])

    def test_release(self) -> None:
        s = self.settings()
        for replies, lost in [
            ([answer(200, {"released": True})], False),
            ([problem(404, "not_held")], True),
            ([problem(409, "broken")], True),
            ([Failed("reset", True), problem(404, "not_held")], False),  # the first did it
            ([Failed("refused", False)], False),  # it ends by itself
        ]:
            self.setUp()
            self.script(*replies)
            flow = release(self.settings(), protocol.release("k"), self.valid(), "db")
            if lost:
                self.assertRaises(LeaseLost, self.world.result, flow)
            else:
                self.world.result(flow)
        expired = self.valid(0.1)
        self.world.run(0)
        self.world.now += 1
        self.script(answer(200, {"released": True}))
        self.assertRaises(LeaseLost, self.world.result, release(s, protocol.release("k"), expired, "db"))

    # Tasks.

    def claim(self, wait: Optional[float] = None, **plan: Any) -> Ask:
        return tasks.ask_for(self.settings(), "t", tasks.Plan(**plan), None, wait, None, None)

    def test_a_claim_waits_in_slices(self) -> None:
        self.script((1, answer(200, {"status": "running", "waiting": True, "position": 1, "queue_length": 1})),
                    answer(200, {"status": "done", "result": "[1]"}))  # fmt: skip
        got = self.world.result(acquire(self.settings(), self.claim(keep=5, at_most_once=True)))
        self.assertIsNone(got.validity)
        self.assertEqual(tasks.outcome("t", got.members), [1])
        body = self.sent[1][2]
        self.assertEqual((body["wait"], body["poll"], body["keep"], body["at_most_once"]), (-1, 2, 5, True))
        self.assertNotIn("every", body)

    def test_outcomes(self) -> None:
        self.assertEqual(tasks.outcome("t", {"status": "done", "result": "schema is at version 42"}), "schema is at version 42")
        self.assertIsNone(tasks.outcome("t", {"status": "done"}))
        for status, kind in [("failed", TaskFailed), ("unknown", TaskUnknown), ("running", TaskBusy), ("open", TaskBusy)]:
            self.assertRaises(kind, tasks.outcome, "t", {"status": status})

    def test_results_that_are_not_kept(self) -> None:
        for value in (object(), float("nan"), "x" * (16 << 10), {1, 2}):
            text, trouble = tasks.try_encode(value)
            self.assertEqual(text, "")
            self.assertIsNotNone(trouble)

    def test_completing(self) -> None:
        s, target = self.settings(), self.claim().target
        for replies, keep_, lost in [
            ([answer(200, {"status": "done"})], None, False),
            ([problem(409, "not_claimant")], None, True),
            ([Failed("reset", True), problem(409, "not_claimant")], None, True),
            ([Failed("reset", True), problem(409, "not_claimant")], 0, False),  # the record went with the first
        ]:
            self.script(*replies)
            flow = tasks.complete(s, target, "k", "", keep_, self.keeping(self.valid()))
            if lost:
                self.assertRaises(LeaseLost, self.world.result, flow)
            else:
                self.world.result(flow)

    def test_failing(self) -> None:
        s, target = self.settings(), self.claim().target
        self.script(answer(200, {"status": "open"}))
        self.world.result(tasks.report_failure(s, target, "k", ValueError("boom\x00"), False))
        self.assertEqual(self.sent[0][2]["error"], "ValueError: boom ")
        self.world.result(tasks.report_failure(s, target, "k", NotDone("nothing"), True))
        self.assertEqual(self.sent[1][2]["error"], "NotDone: nothing")
        self.world.result(tasks.report_failure(s, target, "k", ValueError("boom"), True))
        self.assertEqual(self.sent[2][2], {}, "it is given back as lost: nobody knows what was done")


class ValidityTest(unittest.TestCase):
    @unittest.skipUnless(sys.platform == "linux", "the clock that goes on during suspension has another name elsewhere")
    def test_the_clock_goes_on_during_suspension(self) -> None:
        before = time.clock_gettime(time.CLOCK_BOOTTIME)
        read = best_clock()()
        self.assertTrue(before <= read <= time.clock_gettime(time.CLOCK_BOOTTIME))
        with mock.patch("time.clock_gettime", side_effect=OSError):
            self.assertIs(best_clock(), time.monotonic)

    def test_a_suspended_machine_loses(self) -> None:
        now = [0.0]
        valid = Validity(lambda: now[0], 0, 30, 0.5)
        self.assertAlmostEqual(valid.remaining(), 29.2)
        now[0] = 29.2
        self.assertRaises(LeaseLost, valid.check, "it")
        now[0] = 0.0
        self.assertEqual(valid.remaining(), 0, "lost is lost")

    def test_a_late_renewal_does_not_bring_it_back(self) -> None:
        now = [0.0]
        valid = Validity(lambda: now[0], 0, 30, 0.5)
        self.assertTrue(valid.extend(10, 30))
        self.assertFalse(valid.extend(5, 30) and valid.end < 39, "an older answer does not shorten it")
        now[0] = 40.0
        self.assertFalse(valid.extend(39, 30))
        self.assertTrue(valid.why_lost())


class EventReaderTest(unittest.TestCase):
    def test_pieces(self) -> None:
        text = b'retry: 1000\n\n:\n\nid: 1-1\nevent: granted\ndata: {"name":"a","token":3}\n\n'
        for size in (1, 7, len(text)):
            reader = EventReader()
            found = [e for at in range(0, len(text), size) for e in reader.feed(text[at : at + size])]
            self.assertEqual([(e.kind, e.name, e.token, e.id) for e in found], [("granted", "a", 3, "1-1")])


if __name__ == "__main__":
    unittest.main()
