"""Our own processes, as supervised programs: they are our code, and answer for their health."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import httpx

from compose.embedded.places import CHECKOUT, HOST, Ports
from compose.embedded.supervisord import Program
from inventory.settings import PREFIX, Settings

#: Checkouts need a payment and a shipping service, which the stack does not bring along.
CHECKOUT_WORKER = "checkout"

#: What each runs; started in this order.
COMMANDS: MappingProxyType[str, tuple[str, ...]] = MappingProxyType(
    {
        "availability": ("stream", "availability"),
        "ledger": ("stream", "ledger"),
        "auditor": ("audit",),
        "guardian": ("guard",),
        "reservations": ("reservations",),
        CHECKOUT_WORKER: ("stream", "checkout"),
    }
)

#: Those that every stack has.
WORKERS = tuple(name for name in COMMANDS if name != CHECKOUT_WORKER)

#: They look on, and give way to those who do the work.
_ONLOOKERS = frozenset({"auditor", "guardian"})
_GIVE_WAY = ("nice", "-n", "19")
#: glibc keeps what was freed apart for each thread: hundreds of MB after a large pass.
_SMALL = {"MALLOC_ARENA_MAX": "2"}

_ANSWER_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a process says of itself.

    Attributes:
        ready: whether it does its work.
        reasons: by check, what keeps it from being ready.
        facts: its figures, as it names them.
    """

    ready: bool
    reasons: Mapping[str, str]
    facts: Mapping[str, object]

    @property
    def reason(self) -> str | None:
        """The first reason, with the name of its check."""
        return next((f"{check}: {text}" for check, text in self.reasons.items()), None)


def workers_of(settings: Settings) -> tuple[str, ...]:
    """The processes that these settings ask for, in the order in which they are started."""
    if settings.payment_url is None or settings.shipping_url is None:
        return WORKERS
    return tuple(COMMANDS)


def worker_program(name: str, environment: Mapping[str, str], ports: Ports) -> Program:
    """A worker, in the virtual environment that this process runs in."""
    port = ports.health_of(name)
    looks_on = name in _ONLOOKERS
    return Program(
        name,
        (*(_GIVE_WAY if looks_on else ()), sys.executable, "-m", *COMMANDS[name]),
        directory=CHECKOUT,
        environment={
            **environment,
            **(_SMALL if looks_on else {}),
            f"{PREFIX}HEALTH_PORT": str(port),
        },
        # SIGTERM lets the batch in hand finish and the offsets commit.
        stop_seconds=30,
        # One that ends sooner is in a crash loop, and is started again after growing pauses.
        start_seconds=10,
        # A worker that leaves because of an outage must be back after it, however long that was.
        start_retries=1_000_000,
    )


def ask(ports: Ports, name: str) -> Answer | None:
    """Ask a worker whether it is ready; None if it does not answer."""
    url = f"http://{HOST}:{ports.health_of(name)}/ready"
    try:
        with httpx.Client(timeout=_ANSWER_SECONDS, trust_env=False) as client:
            said = client.get(url).json()
            if said["process"] != name:
                return None
            return Answer(bool(said["ok"]), dict(said["reasons"]), dict(said["facts"]))
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        # Silence, or whoever else listens there.
        return None
