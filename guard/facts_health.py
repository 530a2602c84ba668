"""Asks a process for its health."""

import httpx

from guard.facts import ProcessFacts, Unread

_HOST = "127.0.0.1"
_SECONDS = 2.0


def read_process(port: int) -> ProcessFacts | Unread:
    """What the process at this port says of itself."""
    try:
        with httpx.Client(timeout=_SECONDS, trust_env=False) as client:
            live = client.get(f"http://{_HOST}:{port}/live")
            ready = client.get(f"http://{_HOST}:{port}/ready")
            reasons = {**ready.json()["reasons"], **live.json()["reasons"]}
    except (httpx.HTTPError, ValueError, KeyError) as exc:
        return Unread(f"nothing answers on {_HOST}:{port} ({exc})")
    return ProcessFacts(live.is_success, ready.is_success, reasons)
