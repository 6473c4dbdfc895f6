"""Whatever the network does: no two clients believe in the same lock at a time, and all of them get it."""

from __future__ import annotations

import unittest
from typing import Any, List, Optional, Tuple
from unittest import mock

from doubledutch import protocol, validity
from doubledutch.acquiring import Ask, Keeping, acquire, keep, release
from doubledutch.errors import Held, LeaseLost
from doubledutch.flow import sleep_until
from doubledutch.validity import Validity

from .sim import Server, World, faulty, settings

TTL = 3.0
Window = Tuple[float, float, int]


class Story:
    """Clients that contend for one lock, in a world that follows from a seed."""

    def __init__(self, seed: int, slow: float, loss: Optional[float] = None) -> None:
        self.world = World(seed)
        if loss is None:
            loss = self.world.rng.choice([0.01, 0.05, 0.2])
        rate = self.world.rng.uniform(1.0, 1.009)  # the server's clock runs faster, which is the dangerous direction
        # A repeated release is told that there is nothing to release, and its answer may overtake the first: that counts as a loss.
        self.world.network = faulty(self.world, Server(self.world, rate), loss, slow, again=0.1 if loss else 0)
        self.windows: List[Window] = []
        self.grants = self.losses = 0
        for _ in range(4):
            self.world.start(self._client())
        self.world.run(240)

    def overlaps(self) -> List[Tuple[Window, Window]]:
        ordered = sorted(self.windows)
        return [(a, b) for a, b in zip(ordered, ordered[1:]) if b[0] < a[1] - 1e-6]

    def _client(self) -> Any:
        world = self.world
        s = settings(world.clock, world.rng, patience=1e9, try_timeout=1.0)
        while world.now < 200:
            wait = world.rng.choice([None, 0, 2.0, 20.0])
            ask = Ask(protocol.lock_target("db", False, None), TTL, wait, {"ttl": TTL})
            try:
                got = yield from acquire(s, ask)
            except Held:
                yield from sleep_until(s, world.now + world.rng.uniform(0, 2))
                continue
            assert got.validity is not None
            yield from self._hold(s, ask, got.validity, got.members["token"])

    def _hold(self, s: Any, ask: Ask, valid: Validity, token: int) -> Any:
        world, begin = self.world, self.world.now
        self.grants += 1
        keeper = world.start(keep(s, Keeping("db", valid, protocol.renew(ask.target, ask.key))))
        until = begin + world.rng.choice([0.01, 1.0, 8.0])
        while world.now < until and not valid.why_lost():
            yield from sleep_until(s, min(world.now + 0.05, until))
        keeper.stop()
        self.windows.append((begin, max(begin, min(world.now, valid.end)), token))
        try:
            yield from release(s, protocol.release(ask.key), valid, "db")
        except LeaseLost:
            self.losses += 1


class ExclusionTest(unittest.TestCase):
    def test_nobody_overlaps(self) -> None:
        grants = losses = 0
        for seed in range(15):
            with self.subTest(seed=seed):
                story = Story(seed, slow=0.9 * TTL)
                self.assertEqual(story.overlaps(), [])
                tokens = [token for _, _, token in sorted(story.windows)]
                self.assertEqual(tokens, sorted(set(tokens)), "tokens grow in the order of the windows")
                grants, losses = grants + story.grants, losses + story.losses
        self.assertGreater(grants, 250)
        self.assertGreater(losses, 5, "the network was not bad enough to show anything")

    def test_nobody_loses_without_a_fault(self) -> None:
        for seed in range(5):
            story = Story(seed, slow=0.01, loss=0)
            self.assertEqual(story.overlaps(), [])
            self.assertEqual(story.losses, 0)
            self.assertGreater(story.grants, 20)

    def test_counting_from_the_answer_would_overlap(self) -> None:
        """The test above can fail: a client that counts from the moment it got the answer is found out."""

        def from_receipt(self: Validity, clock: Any, sent: float, expires_in: float, margin: float) -> None:
            original(self, clock, clock(), expires_in, margin)

        def extend(self: Validity, sent: float, expires_in: float) -> bool:
            return prolong(self, self._clock(), expires_in)

        original, prolong = Validity.__init__, Validity.extend
        with mock.patch.object(Validity, "__init__", from_receipt), mock.patch.object(Validity, "extend", extend):
            self.assertTrue(any(Story(seed, slow=0.9 * TTL).overlaps() for seed in range(30)))

    def test_forgetting_the_drift_would_overlap(self) -> None:
        with mock.patch.object(validity, "DRIFT", -0.02), mock.patch("doubledutch.flow.default_margin", lambda ttl: 0.0):
            self.assertTrue(any(Story(seed, slow=0.9 * TTL).overlaps() for seed in range(30)))


if __name__ == "__main__":
    unittest.main()
