"""Every stock change, told to warehouse systems as a level and to ledgers as a movement."""

from collections.abc import Awaitable, Sequence

from inventory.groups import LEDGER, group_id
from inventory.messages import OutgoingMessage
from stream.changes import decode
from stream.inbox import Batch
from stream.place import Missed, Passage
from stream.publisher import Later
from stream.roll import Handed, Roll
from stream.telling import changes_told


class LedgerAgent:
    """Needs only Kafka: a map of each change, none left out and none merged."""

    name = group_id(LEDGER)

    def __init__(self, roll: Roll) -> None:
        """Tell whom this roll says."""
        self._roll = roll

    async def __call__(self, batch: Batch) -> Awaitable[None]:
        """Apply a batch; await the result to know that its messages are acknowledged.

        Who was not told is noted by then as being behind.
        """
        await self._roll.look_up({record.partition for record in batch.records})
        passages, missed = self._roll.passages(batch.records)
        messages: list[OutgoingMessage] = []
        for passage in passages:
            changes, _, _, dead_letters = decode(passage.records, self.name)
            messages += dead_letters
            messages += changes_told(changes, passage.policies)
        handed = await self._roll.publish(messages)
        return Later(lambda: self._settle(handed, passages, missed))

    async def _settle(self, handed: Handed, passages: Sequence[Passage], missed: Missed) -> None:
        topics = await handed.receipt
        refused = [
            (place, passage.records[0].offset)
            for passage in passages
            for place in passage.places
            if place.policy is not None and place.policy.topic in topics
        ]
        if missed or refused:
            await self._roll.missed(missed, refused)
        self._roll.done(handed)
