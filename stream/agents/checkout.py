"""`checkout.requested`: commands become sagas in Postgres, no more than can be looked after."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeAlias

from inventory.errors import InvalidEvent, Outage
from inventory.groups import CHECKOUT, group_id
from inventory.messages import OutgoingMessage
from reservations.saga.command import CheckoutRequested, read_command
from stream.dead_letter import dead_letter
from stream.inbox import Batch, Record
from stream.publisher import Later, Publisher
from stream.retry import OUTAGES, until_it_works

#: Checkouts that have not ended, at most: with these in Postgres, commands wait in Kafka.
MOST_OPEN = 1_000

_Commands: TypeAlias = list[tuple[Record, CheckoutRequested]]


class Intake(Protocol):
    """Where commands become sagas (`reservations.saga.store.Sagas`).

    Raises (both methods):
        Outage: it takes none at the moment.
    """

    async def accept(self, *commands: CheckoutRequested) -> list[CheckoutRequested]:
        """Begin all of them, once each; those that contradict what was accepted under their id."""
        ...

    async def count_open(self, most: int) -> int:
        """How many have not ended, counted up to `most`."""
        ...


class CheckoutAgent:
    """A batch is acknowledged once all of its commands are accepted or dead letters.

    While there is no room nothing is taken from the inbox, so the fetcher stops, and Kafka keeps
    what comes. The bound is each worker's: several of them may pass it by a batch.
    """

    name = group_id(CHECKOUT)

    def __init__(
        self,
        intake: Intake,
        publisher: Publisher,
        epoch: Callable[[], int],
        accepted: Callable[[], None],
        *,
        most_open: int = MOST_OPEN,
    ) -> None:
        """Work with these ports.

        Args:
            intake: the sagas.
            publisher: for dead letters.
            epoch: rises when partitions are revoked (`Inbox.epoch`).
            accepted: is told that there are new sagas.
            most_open: sagas that have not ended, at most.
        """
        self._intake = intake
        self._publisher = publisher
        self._epoch = epoch
        self._accepted = accepted
        self._most_open = most_open

    async def __call__(self, batch: Batch) -> Awaitable[None]:
        """Take a batch in; await the result to know that its dead letters are acknowledged."""
        waiting, dead = self._read(batch.records)
        try:
            dead += await self._take_all_in(batch, waiting)
        finally:
            OUTAGES.over(batch)
        receipt = await self._publisher.publish(dead)
        return Later(lambda: _settle(receipt))

    def _read(self, records: Sequence[Record]) -> tuple[_Commands, list[OutgoingMessage]]:
        """The commands, and the dead letters of what is none."""
        commands, dead = [], []
        for record in records:
            try:
                commands.append((record, read_command(record.value or b"")))
            except InvalidEvent as reason:
                dead.append(dead_letter(record, reason, self.name))
        return commands, dead

    async def _take_all_in(self, batch: Batch, commands: _Commands) -> list[OutgoingMessage]:
        """Accept all of a batch, bit by bit; the dead letters of those that contradict others."""
        epoch, waiting, dead = self._epoch(), commands, list[OutgoingMessage]()

        async def take_some_in() -> None:
            nonlocal waiting
            if self._epoch() == epoch:
                waiting, contradicting = await self._take_in(batch, waiting)
                dead.extend(contradicting)

        while waiting:
            if self._epoch() != epoch:
                # Whoever has the partitions now takes these in: nobody need wait for it here.
                batch.abandoned = True
                break
            await until_it_works(take_some_in)
        return dead

    async def _take_in(
        self, batch: Batch, waiting: _Commands
    ) -> tuple[_Commands, list[OutgoingMessage]]:
        """Accept as many as there is room for; those that still wait, and dead letters.

        Raises:
            Outage: there is room for none, or Postgres takes none.
        """
        room = self._most_open - await self._intake.count_open(self._most_open)
        if room <= 0:
            full = Outage(
                f"{self._most_open:,} checkouts are open, so no more are taken in until some of "
                "these have ended; see `stockwire saga list` for what they wait for."
            )
            # It moves on only when all of the batch is taken in: until then that is no stall, even
            # while there happens to be room for some of it.
            OUTAGES.met(batch, full)
            raise full
        some = waiting[:room]
        refused = await self._intake.accept(*(command for _, command in some))
        self._accepted()
        reason = InvalidEvent("checkout.requested: id: another command came under it before")
        dead = [
            dead_letter(record, reason, self.name) for record, command in some if command in refused
        ]
        return waiting[room:], dead


async def _settle(receipt: Awaitable[frozenset[str]]) -> None:
    # A refused dead letter is an outage, and raises.
    await receipt
