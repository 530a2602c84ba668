"""What `stockwire status` shows."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PartStatus:
    """A part as it is now.

    Attributes:
        state: supervisord's word for it (`RUNNING`, `STOPPED`, `BACKOFF`, `FATAL`, …).
        pid: None when it does not run.
        port: where it listens; a worker, for who asks about its health.
        resident_mb: memory with its children, in MB of 2^20 bytes.
        uptime: in seconds.
        answers: whether the server does its work; for a worker, whether it says how it is.
        ready: whether it does its work now.
        reason: why it is not ready.
        facts: the figures of a worker, as it names them.
    """

    part: str
    state: str
    pid: int | None
    port: int
    resident_mb: int
    uptime: int
    answers: bool
    ready: bool
    reason: str | None
    facts: Mapping[str, object]
