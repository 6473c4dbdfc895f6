"""Runs all tests and prints a line of JSON for each: python3 -m tests. Used by the Go test in test/python."""

from __future__ import annotations

import json
import sys
import time
import unittest
from typing import Any, Dict, List, Optional


class Lines(unittest.TestResult):
    """Tells what came of each test when it ends."""

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self._outcome, self._begun = "ok", time.monotonic()
        self._said: List[str] = []

    def stopTest(self, test: unittest.TestCase) -> None:
        super().stopTest(test)
        self._print(test.id(), self._outcome, "\n".join(self._said), time.monotonic() - self._begun)

    def addError(self, test: Any, err: Any) -> None:
        if isinstance(test, unittest.TestCase):
            self._note("failed", self._exc_info_to_string(err, test))  # type: ignore[attr-defined]
        else:  # setUpClass
            super().addError(test, err)
            self._print(test.id(), "failed", self.errors[-1][1], 0)

    def addFailure(self, test: Any, err: Any) -> None:
        self.addError(test, err)

    def addSubTest(self, test: Any, subtest: Any, err: Optional[Any]) -> None:
        if err is not None:
            self._note("failed", f"{subtest}\n{self._exc_info_to_string(err, test)}")  # type: ignore[attr-defined]

    def addSkip(self, test: Any, reason: str) -> None:
        self._outcome, self._said = "skipped", [reason]

    def _note(self, outcome: str, text: str) -> None:
        self._outcome = outcome
        self._said.append(text)

    @staticmethod
    def _print(test: str, outcome: str, text: str, seconds: float) -> None:
        line: Dict[str, Any] = {"test": test, "outcome": outcome, "text": text, "seconds": round(seconds, 3)}
        print(json.dumps(line), flush=True)


def main(names: List[str]) -> None:
    loader = unittest.defaultTestLoader
    suite = loader.loadTestsFromNames(names) if names else loader.discover("tests", top_level_dir=".")
    suite.run(Lines())
    print(json.dumps({"test": "", "outcome": "end", "text": "", "seconds": 0}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
