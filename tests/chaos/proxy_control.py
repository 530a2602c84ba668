"""Starts the proxy, and tells it what to do."""

import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from tests.conftest import ROOT


class ProxyControl:
    """The proxy's process; `close` ends it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.proxy"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._lock = threading.Lock()
        self._answer()

    def close(self) -> None:
        """End it at once, and with it every connection: there is nothing that it would finish."""
        self._process.kill()
        self._process.communicate()

    @contextmanager
    def rule(self, client: str, server: str, kind: str, value: float = 0) -> Iterator[None]:
        """Have a rule for one pair while inside."""
        self._do(do="rule", client=client, server=server, kind=kind, value=value)
        try:
            yield
        finally:
            self._do(do="clear")

    def route(self, server: str, port: int) -> None:
        """Lead new connections for a server to another port, and cut those that are open."""
        self._do(do="upstream", server=server, port=port)
        self._do(do="cut", server=server)

    def counters(self, client: str, server: str) -> Counter[str]:
        """What has happened to a pair so far: connections, delayed, held, replies, resets."""
        return Counter(self._do(do="counters").get(f"{client}>{server}", {}))

    def _do(self, **order: object) -> dict:
        with self._lock:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            return self._answer()

    def _answer(self) -> dict:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the proxy has ended with {self._process.wait(10)}"
        answer = json.loads(line)
        assert "error" not in answer, answer
        return answer
