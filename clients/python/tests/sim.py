"""A world in which nothing takes time: flows, a network that loses, delays and repeats, and a server that is small enough to be
checked by reading. All of it follows from a seed."""

from __future__ import annotations

import heapq
import itertools
import json
import random
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Generator, List, Optional, Set, Tuple

from doubledutch.flow import Send, Settings, Sleep
from doubledutch.wire import Answer, Endpoint, Failed, Request


def settings(clock: Callable[[], float], rng: random.Random, nodes: int = 2, **options: Any) -> Settings:
    endpoints = [Endpoint(f"n{i}", 7333) for i in range(nodes)]
    return Settings(endpoints, owner="sim", clock=clock, random=rng.random, **options)


def answer(status: int, members: Dict[str, Any], **headers: str) -> Answer:
    return Answer(status, headers, json.dumps(members).encode())


def problem(status: int, code: str, **more: Any) -> Answer:
    return answer(status, {"status": status, "code": code, "title": code, "detail": code, **more})


class World:
    """Virtual time, and what runs in it."""

    def __init__(self, seed: int) -> None:
        self.now = 0.0
        self.rng = random.Random(seed)
        self.network: Callable[[Send, Callable[[Any], None]], None] = lambda effect, reply: None
        self._order = itertools.count()
        self._agenda: List[Tuple[float, int, Callable[[], None]]] = []
        self.failures: List[BaseException] = []

    def clock(self) -> float:
        return self.now

    def at(self, moment: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (max(moment, self.now), next(self._order), action))

    def run(self, until: float) -> None:
        while self._agenda and self._agenda[0][0] <= until:
            self._next()
        if self.failures:
            raise self.failures[0]

    def _next(self) -> None:
        self.now, _, action = heapq.heappop(self._agenda)
        action()

    def start(self, flow: Generator[Any, Any, Any], done: Optional[Callable[[Any], None]] = None) -> "Process":
        process = Process(self, flow, done)
        self.at(self.now, lambda: process.step(None))
        return process

    def result(self, flow: Generator[Any, Any, Any], until: float = 1e6) -> Any:
        """Runs a flow alone, and returns its result or raises what it raises."""
        results: List[Any] = []
        self.start(flow, results.append)
        while not results and not self.failures and self._agenda and self._agenda[0][0] <= until:
            self._next()
        if self.failures:
            raise self.failures.pop()
        assert results, "the flow did not end"
        return results[0]


class Process:
    """A flow that runs in a world."""

    def __init__(self, world: World, flow: Generator[Any, Any, Any], done: Optional[Callable[[Any], None]]) -> None:
        self.world, self.flow, self.done = world, flow, done
        self.stopped = False

    def stop(self) -> None:
        self.stopped = True

    def step(self, reply: Any) -> None:
        if self.stopped:
            return
        try:
            effect = self.flow.send(reply)
        except StopIteration as end:
            self.stopped = True
            if self.done:
                self.done(end.value)
            return
        except Exception as error:
            self.stopped = True
            self.world.failures.append(error)
            return
        if isinstance(effect, Sleep):
            assert effect.seconds >= 0
            self.world.at(self.world.now + effect.seconds, lambda: self.step(None))
        else:
            self._send(effect)

    def _send(self, effect: Send) -> None:
        assert effect.timeout > 0
        waiting = [True]

        def reply(what: Any) -> None:
            if waiting:
                waiting.clear()
                self.step(what)

        self.world.at(self.world.now + effect.timeout, lambda: reply(Failed("no answer in time", True)))
        self.world.network(effect, reply)


@dataclass
class Waiting:
    key: str
    ttl: float
    until: float
    grace: float
    replies: List[Callable[[Answer], None]] = field(default_factory=list)


@dataclass
class Held:
    key: str
    token: int
    ttl: float
    deadline: float


class Server:
    """One exclusive lock, with a queue, slices, keys that are spent, and a clock that runs at another rate than the clients'."""

    GRACE = 6.0

    def __init__(self, world: World, rate: float = 1.0) -> None:
        self.world, self.rate = world, rate
        self.held: Optional[Held] = None
        self.queue: List[Waiting] = []
        self.spent: Set[str] = set()
        self.token = 0

    def now(self) -> float:
        return self.world.now * self.rate

    def handle(self, request: Request, reply: Callable[[Answer], None]) -> None:
        self._pump()
        body = json.loads(request.body or b"{}")
        key = dict(request.headers).get("Lock-Key") or body["key"]
        if request.method == "DELETE":
            self._release(key, reply)
        elif request.path.endswith("/renew"):
            self._renew(key, reply)
        else:
            self._acquire(key, body, reply)
        self._pump()

    def _release(self, key: str, reply: Callable[[Answer], None]) -> None:
        if self.held and self.held.key == key:
            self.held = None
        elif any(w.key == key for w in self.queue):
            self._drop(key, "cancelled")
        else:
            reply(problem(404, "not_held"))
            return
        self.spent.add(key)
        reply(answer(200, {"released": True}))

    def _renew(self, key: str, reply: Callable[[Answer], None]) -> None:
        if not self.held or self.held.key != key:
            reply(problem(404, "not_held"))
            return
        self.held.deadline = self.now() + self.held.ttl
        self._wake_at(self.held.deadline)
        reply(answer(200, {"ttl": self.held.ttl, "expires_in": self.held.ttl}))

    def _acquire(self, key: str, body: Dict[str, Any], reply: Callable[[Answer], None]) -> None:
        wait, now = body.get("wait", 0), self.now()
        if self.held and self.held.key == key:
            reply(self._grant(self.held))
            return
        if key in self.spent:
            reply(problem(409, "key_spent"))
            return
        place = next((w for w in self.queue if w.key == key), None)
        if not wait and (self.held or self.queue):
            self._drop(key, "held")
            reply(problem(409, "held"))
            return
        if place is None:
            place = Waiting(key, body["ttl"], 0, 0)
            self.queue.append(place)
        for old in place.replies:
            old(problem(409, "cancelled"))
        place.until = now + wait if wait >= 0 else float("inf")
        place.grace = now + body.get("poll", 0) + self.GRACE
        place.replies = [reply]
        self._wake_at(place.until)
        self._wake_at(place.grace)
        if wait:
            self.world.at((now + body["poll"]) / self.rate, lambda: self._poll_over(place, reply))

    def _poll_over(self, place: Waiting, reply: Callable[[Answer], None]) -> None:
        self._pump()
        if reply in place.replies:
            place.replies.remove(reply)
            at = self.queue.index(place) + 1
            reply(answer(202, {"waiting": True, "position": at, "queue_length": len(self.queue), "waited": 0}))

    def _drop(self, key: str, code: str) -> None:
        for w in [w for w in self.queue if w.key == key]:
            self.queue.remove(w)
            replies, w.replies = w.replies, []
            for reply in replies:
                reply(problem(409, code))

    def _wake_at(self, moment: float) -> None:
        if moment != float("inf"):
            self.world.at(moment / self.rate + 1e-9, self._pump)

    def _pump(self) -> None:
        """Lets everything happen that is due."""
        if self.held and self.held.deadline <= self.now():
            self.spent.add(self.held.key)
            self.held = None
        for w in [w for w in self.queue if min(w.until, w.grace) <= self.now()]:
            self._drop(w.key, "held")
        if self.held is None and self.queue:
            w = self.queue.pop(0)
            self.token += 1
            self.held = Held(w.key, self.token, w.ttl, self.now() + w.ttl)
            self._wake_at(self.held.deadline)
            replies, w.replies = w.replies, []
            for reply in replies:
                reply(self._grant(self.held))

    def _grant(self, held: Held) -> Answer:
        return answer(200, {"token": held.token, "ttl": held.ttl, "expires_in": held.deadline - self.now(), "waited": 0})


def faulty(world: World, server: Server, loss: float, slow: float, again: float = 0.1) -> Callable[[Send, Callable[[Any], None]], None]:
    """A network that loses a share of the messages, repeats another, and takes up to `slow` seconds for some others."""

    def delay() -> float:
        return world.rng.uniform(0, slow) if world.rng.random() < 0.2 else world.rng.uniform(0, 0.01)

    def send(effect: Send, reply: Callable[[Any], None]) -> None:
        def back(what: Answer) -> None:
            if world.rng.random() >= loss:
                world.at(world.now + delay(), lambda: reply(what))

        for _ in range(2 if world.rng.random() < again else 1):
            if world.rng.random() >= loss:
                world.at(world.now + delay(), lambda: server.handle(effect.request, back))

    return send
