"""Tasks with the client with threads, against a real server."""

from __future__ import annotations

import threading
import unittest
from typing import Any, Dict, List

from doubledutch import LeaseLost, NotDone, ResultNotKept, TaskBusy, TaskFailed, TaskUnknown, current_claim

from .cases import Background, ServerCase
from .common import SOON, eventually, hasty, run_script
from .server import needs_program, plain


@needs_program
class TaskTest(ServerCase):
    def test_once(self) -> None:
        runs: List[int] = []

        @self.dd.once(lambda number: f"{self.name}-{number}")
        def migrate(number: int) -> Dict[str, Any]:
            claim = current_claim()
            claim.progress("half of it")
            runs.append(claim.token)
            task = self.dd.show_task(claim.name)
            assert task is not None
            self.assertEqual((task["progress"], task["attempt"], claim.attempt), ("half of it", 1, 1))
            return {"version": (number, None)}

        self.assertIsNone(self.dd.show_task(f"{self.name}-42"))
        threads = [Background(lambda: migrate(42)) for _ in range(5)]
        self.assertEqual([t.result() for t in threads], [{"version": [42, None]}] * 5)
        self.assertEqual(len(runs), 1)
        migrate(43)
        self.assertEqual(len(runs), 2)
        self.assertEqual(migrate.__name__, "migrate")

    def test_failures_count(self) -> None:
        runs: List[int] = []

        @self.dd.once(self.name, max_attempts=2)
        def fragile() -> None:
            runs.append(current_claim().attempt)
            raise ValueError("no luck")

        self.assertRaises(ValueError, fragile)
        self.assertRaises(ValueError, fragile)
        with self.assertRaises(TaskFailed) as caught:
            fragile()
        self.assertEqual((runs, caught.exception.error), ([1, 2], "ValueError: no luck"))

    def test_the_next_attempt_has_to_wait(self) -> None:
        fragile = self.dd.once(self.name, retry_delay=600, wait=0.01)(lambda: 1 / 0)
        self.assertRaises(ZeroDivisionError, fragile)
        self.assertRaises(TaskBusy, fragile)

    def test_busy(self) -> None:
        begun, end = threading.Event(), threading.Event()

        def work() -> int:
            begun.set()
            end.wait(SOON)
            return 1

        first = Background(self.dd.once(self.name)(work))
        self.assertTrue(begun.wait(SOON))
        self.assertRaises(TaskBusy, self.dd.once(self.name, wait=0)(work))
        second = Background(self.dd.once(self.name)(work))
        end.set()
        self.assertEqual((first.result(), second.result()), (1, 1))

    def test_at_most_once(self) -> None:
        runs: List[int] = []

        @self.dd.once(self.name, at_most_once=True)
        def pay() -> None:
            runs.append(1)
            raise (NotDone("the bank is closed") if len(runs) == 1 else ConnectionError("lost"))

        self.assertRaises(NotDone, pay)
        self.assertRaises(ConnectionError, pay)
        self.assertRaises(TaskUnknown, pay)
        self.assertEqual(len(runs), 2)

    def test_a_result_that_is_not_kept(self) -> None:
        self.assertRaises(ResultNotKept, self.dd.once(self.name)(object))
        self.assertIsNone(self.dd.once(self.name)(object)())

    def test_kept_for_no_time(self) -> None:
        runs: List[int] = []
        often = self.dd.once(self.name, keep=0)(lambda: runs.append(1))
        often()
        often()
        self.assertEqual(len(runs), 2)

    def test_schedules(self) -> None:
        for i, plan in enumerate([{"every": 86400.0 * 300}, {"cron": "30 2 29 2 *", "zone": "Europe/Zurich"}]):
            runs: List[int] = []

            @self.dd.once(f"{self.name}{i}", **plan)  # type: ignore[arg-type]
            def nightly() -> str:
                runs.append(1)
                assert current_claim().slot is not None
                return "done"

            self.assertEqual((nightly(), nightly(), len(runs)), ("done", "done", 1))

    def test_a_child_that_is_forked_within(self) -> None:
        text = (
            f"@dd.once({self.name!r})\ndef work():\n    child = os.fork()\n    if child == 0:\n        sys.exit(0)\n"
            "    assert os.waitpid(child, 0)[1] == 0\n    return 'done by the parent'\nprint(work())"
        )
        done = run_script(self.server.url, text)
        self.assertEqual((done.returncode, done.stderr, done.stdout), (0, b"", b"done by the parent\n"))
        task = self.dd.show_task(self.name)
        assert task is not None
        self.assertEqual((task["status"], task["attempt"]), ("done", 1))

    def test_a_lost_claim(self) -> None:
        lost: List[Any] = []

        def work() -> None:
            token = current_claim().token
            plain(self.server.url, "DELETE", f"/v1/tasks/{self.name}?token={token}")
            eventually("the callback", lambda: lost)
            current_claim().check()

        with hasty():
            self.assertRaises(LeaseLost, self.dd.once(self.name, ttl=30, on_lost=lost.append)(work))


if __name__ == "__main__":
    unittest.main()
