"""What is installed is what is here, and needs nothing else."""

from __future__ import annotations

import ast
import os
import re
import sys
import unittest
from typing import Iterator, Set, Tuple

import doubledutch

from .common import HERE


def sources() -> Iterator[Tuple[str, str]]:
    for directory, _, files in os.walk(os.path.join(HERE, "doubledutch")):
        for name in files:
            if name.endswith(".py"):
                path = os.path.join(directory, name)
                with open(path, encoding="utf-8") as f:
                    yield os.path.relpath(path, HERE), f.read()


class PackageTest(unittest.TestCase):
    def test_all_packages_are_installed(self) -> None:
        with open(os.path.join(HERE, "pyproject.toml"), encoding="utf-8") as f:
            listed = re.search(r'^\[tool.setuptools\]\npackages = \[(.*)\]$', f.read(), re.MULTILINE)
        assert listed is not None
        here = {os.path.dirname(path).replace(os.sep, ".") for path, _ in sources()}
        self.assertEqual({name.strip().strip('"') for name in listed[1].split(",")}, here)
        self.assertTrue(os.path.exists(os.path.join(HERE, "doubledutch", "py.typed")))

    @unittest.skipUnless(hasattr(sys, "stdlib_module_names"), "Python 3.10 knows what its standard library is")
    def test_only_the_standard_library_is_used(self) -> None:
        used: Set[str] = set()
        for path, text in sources():
            for node in ast.walk(ast.parse(text, path, feature_version=(3, 9))):
                if isinstance(node, ast.Import):
                    used.update(alias.name.partition(".")[0] for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    used.add((node.module or "").partition(".")[0])
        self.assertLessEqual(used, set(sys.stdlib_module_names))
        self.assertIn("socket", used)

    def test_all_names_are_there(self) -> None:
        for name in doubledutch.__all__:
            self.assertTrue(hasattr(doubledutch, name), name)


if __name__ == "__main__":
    unittest.main()
