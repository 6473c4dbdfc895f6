"""Real servers, started from the program that the environment names."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import unittest
import urllib.error
import urllib.request
from typing import Any, Dict, List, Optional

from .common import eventually

PROGRAM = os.environ.get("DOUBLEDUTCH_PROGRAM", "")
needs_program = unittest.skipUnless(PROGRAM, "set DOUBLEDUTCH_PROGRAM, or run go test ./test/python")

_addresses = iter(range(2, 250))
_guard = threading.Lock()


def own_address() -> str:
    """A loopback address that no other process uses on this machine, so that ports on it stay free while a server is down."""
    with _guard:
        last = next(_addresses)
    pid = os.getpid()
    return f"127.{1 + pid % 250}.{pid // 250 % 250}.{last}"


class Server:
    """A server that can be killed and started again. With `name` and `cluster` a node of a cluster."""

    def __init__(self, *flags: str, volatile: bool = True, env: Optional[Dict[str, str]] = None, scheme: str = "http") -> None:
        self.address = own_address()
        self.url = f"{scheme}://{self.address}:7333"
        self.dir = tempfile.mkdtemp(prefix="doubledutch-python")
        self._log = open(os.path.join(self.dir, "log"), "wb")
        self._flags = [*flags, *(["--volatile"] if volatile else ["--data-dir", os.path.join(self.dir, "data")])]
        self._env = {k: v for k, v in os.environ.items() if not k.startswith("DOUBLEDUTCH_")}
        self._env.update(env or {})
        self._process: Optional["subprocess.Popen[bytes]"] = None

    def start(self) -> "Server":
        """Starts it and does not wait."""
        argv = [PROGRAM, "serve", "--listen", f"{self.address}:7333", *self._flags]
        self._process = subprocess.Popen(argv, env=self._env, stdout=self._log, stderr=self._log)
        return self

    def await_ready(self) -> "Server":
        eventually("the server is ready", self._is_ready)
        return self

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """kill -9."""
        self.signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait()

    def clean(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()
        self._log.close()
        shutil.rmtree(self.dir, ignore_errors=True)

    def log(self) -> str:
        with open(os.path.join(self.dir, "log"), errors="replace") as f:
            return f.read()[-4000:]

    def _is_ready(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"the server ended: {self.log()}")
        if self.url.startswith("https"):
            return "serves on" in self.log()
        try:
            with urllib.request.urlopen(self.url + "/readyz", timeout=10) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


def plain(url: str, method: str, path: str, body: Optional[Dict[str, Any]] = None) -> Any:
    """A request that does not go through the client under test."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())


def break_hold(url: str, name: str) -> None:
    plain(url, "DELETE", f"/v1/locks/{name}/holders?owner=ops&reason=it+hangs")


class Cluster:
    """Three nodes."""

    def __init__(self) -> None:
        self.nodes: List[Server] = []
        peers = [own_address() for _ in range(3)]
        members = ",".join(f"n{i}={peer}:7334" for i, peer in enumerate(peers))
        for i, peer in enumerate(peers):
            flags = ("--name", f"n{i}", "--cluster-listen", f"{peer}:7334", "--cluster", members)
            self.nodes.append(Server(*flags, volatile=False).start())
        for node in self.nodes:
            node.await_ready()

    @property
    def urls(self) -> List[str]:
        return [node.url for node in self.nodes]

    def leader(self) -> Server:
        def look() -> Optional[Server]:
            for node in self.nodes:
                try:
                    name = plain(node.url, "GET", "/v1/cluster").get("leader")
                except OSError:
                    continue
                if name:
                    return self.nodes[int(name[1:])]
            return None

        found: Server = eventually("somebody leads", look)
        return found

    def clean(self) -> None:
        for node in self.nodes:
            node.clean()
