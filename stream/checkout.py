"""Takes checkouts in, and carries them on: an agent, and an orchestrator beside it."""

import asyncio
from collections.abc import Awaitable
from contextlib import suppress

from inventory.errors import SettingsError
from inventory.settings import PREFIX
from reservations.pool import open_pool
from reservations.saga.http import HttpPayment, HttpShipping, open_client
from reservations.saga.orchestrator import Orchestrator
from reservations.saga.steps import Steps
from reservations.saga.store import Sagas
from reservations.service import Reservations
from stream.agents.checkout import CheckoutAgent
from stream.parts import Parts, Work
from stream.retry import until_it_works

#: What keeps the orchestrator from being ready.
ORCHESTRATOR = "orchestrator"

#: Sagas in hand; each asks one thing of one service, or of Postgres, at a time.
AT_ONCE = 16

#: Connections to Postgres: its part of a saga is short, so there are fewer than sagas in hand.
_CONNECTIONS = 8
#: Seconds until who finds none free counts Postgres as away.
_WAIT_SECONDS = 5.0

#: Seconds between two looks for sagas that wait or were left; of new ones it is told.
_IDLE_SECONDS = 1.0

#: Seconds that the steps in hand get when the process is to end. What takes longer is done again
#: by the next one, once the claim is over.
_LAST_SECONDS = 20.0


async def checkout_work(parts: Parts) -> Work:
    """Makes commands sagas, and has them done.

    Raises:
        SettingsError: it is not said where the services are.
    """
    urls = {"PAYMENT_URL": parts.settings.payment_url, "SHIPPING_URL": parts.settings.shipping_url}
    missing = [PREFIX + name for name, url in urls.items() if url is None]
    if missing:
        raise SettingsError(
            f"Checkouts need a payment and a shipping service: set {' and '.join(missing)}, for "
            "instance to where `python -m simulate.services` answers."
        )
    payment, shipping = [
        await parts.resources.enter_async_context(open_client(str(url), connections=AT_ONCE))
        for url in urls.values()
    ]
    pool = await until_it_works(
        lambda: parts.resources.enter_async_context(
            open_pool(
                parts.settings.conninfo(),
                size=_CONNECTIONS,
                wait_seconds=_WAIT_SECONDS,
                name=parts.identity,
            )
        )
    )
    sagas = Sagas(pool)
    parts.health.expect(ORCHESTRATOR)
    orchestrator = Orchestrator(
        sagas,
        Steps(Reservations(pool), HttpPayment(payment), HttpShipping(shipping)),
        name=parts.identity,
        at_once=AT_ONCE,
        idle_seconds=_IDLE_SECONDS,
        tell=lambda text: parts.health.problem(ORCHESTRATOR, text),
    )
    beside = _Beside(orchestrator)
    parts.beside(beside.run(), "The orchestrator")
    agent = CheckoutAgent(sagas, parts.publisher, lambda: parts.inbox.epoch, orchestrator.wake)
    return Work(agent, _Nothing(), finish=beside.finish)


class _Beside:
    """Has the steps in hand done before the app stops, which would cancel them."""

    def __init__(self, orchestrator: Orchestrator) -> None:
        self._orchestrator = orchestrator
        self._ended = asyncio.Event()

    async def run(self) -> None:
        """Carry checkouts on; having finished, wait for the app to stop."""
        try:
            await self._orchestrator.run()
        finally:
            self._ended.set()
        await asyncio.Event().wait()

    async def finish(self) -> None:
        """Return when nothing is in hand any more, or when that takes too long."""
        self._orchestrator.stop()
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_SECONDS):
                await self._ended.wait()


class _Nothing:
    """No work between the batches."""

    def ready(self) -> bool:
        """Never."""
        return False

    async def step(self) -> Awaitable[None]:
        """Is never asked for."""
        raise AssertionError("there is nothing to do between batches of commands")
