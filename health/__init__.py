"""Whether a process lives and is ready, and why not, over HTTP on loopback."""

from health.server import serve
from health.state import STARTED, Health, Verdict

__all__ = ["STARTED", "Health", "Verdict", "serve"]
