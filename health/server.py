"""GET /live and /ready on loopback: 200 or 503, and the reasons as JSON."""

import json
import socketserver
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from health.state import Health
from inventory.errors import StockwireError

HOST = "127.0.0.1"

#: The setting that a process takes its port from.
SETTING = "STOCKWIRE_HEALTH_PORT"

#: Seconds after which whoever connects and says nothing is sent away.
_PATIENCE = 5

#: Seconds that the end of a process may wait for the listener.
_POLL = 0.2


@contextmanager
def serve(health: Health, port: int | None) -> Iterator[None]:
    """Answer for a process from a thread of its own, in an asyncio process as in any other.

    Args:
        health: asked anew for each answer.
        port: on loopback; without one (None or 0) there is no listener.

    Raises:
        StockwireError: the port cannot be had; the text names the setting.
    """
    if not port:
        yield
        return
    try:
        server = _Server((HOST, port), _handler(health))
    except (OSError, OverflowError) as exc:
        raise StockwireError(
            f"The {health.process} process cannot answer for its health on {HOST}:{port} ({exc}); "
            f"free the port, or set {SETTING} to another."
        ) from exc
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(_POLL,), name="health")
        thread.daemon = True
        thread.start()
        try:
            yield
        finally:
            server.shutdown()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # A connection that hangs must not keep the process from ending.
    block_on_close = False

    def server_bind(self) -> None:
        # HTTPServer would look the host's name up, which may take as long as DNS likes.
        socketserver.TCPServer.server_bind(self)

    def handle_error(self, request: Any, client_address: Any) -> None:
        # Whoever asked may hang up before the answer.
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def _handler(health: Health) -> type[BaseHTTPRequestHandler]:
    answers = {"/live": health.live, "/ready": health.ready}

    class Handler(BaseHTTPRequestHandler):
        timeout = _PATIENCE

        def do_GET(self) -> None:
            answer = answers.get(self.path.partition("?")[0])
            if answer is None:
                self._send(HTTPStatus.NOT_FOUND, {"known": sorted(answers)})
                return
            verdict = answer()
            status = HTTPStatus.OK if verdict.ok else HTTPStatus.SERVICE_UNAVAILABLE
            self._send(
                status,
                {
                    "process": health.process,
                    "ok": verdict.ok,
                    "reasons": verdict.reasons,
                    "facts": verdict.facts,
                },
            )

        def log_message(self, *_: object) -> None:
            """Somebody asks every second; the log is for what happens."""

        def _send(self, status: HTTPStatus, body: dict[str, object]) -> None:
            content = json.dumps(body, default=str).encode() + b"\n"
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(content)

    return Handler
