"""What is done with a portion: mend the live space, load a shadow, or check one.

Each is a `Work`: it looks at what is there, and writes only what must be otherwise.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from redis import Redis

from inventory.errors import Outage, RebuildError
from inventory.policy import PolicySet
from projections.bulk import (
    Fields,
    Sku,
    build,
    decode_row,
    in_flight,
    raised,
    rows_of,
    same_but_commit,
)
from projections.fields import PARTITION_FIELD, PUBLISHED_FIELD, REVISION_FIELD
from projections.outage import redis_outages
from projections.ports import SkuChanges
from projections.space import Fence, Kept, Loaded, Space
from rebuild.portion import Portion
from rebuild.progress import (
    AGAIN,
    DIFFERING_KEY,
    REBUILD_KEY,
    REFUSALS,
    SUSPECTS_KEY,
    Counts,
)

#: How often a SKU is looked at that others keep writing.
_ATTEMPTS = 40
#: Looks at what may be on its way.
_LOOKS = 10
#: More SKUs of a portion than these are not on their way: they are wrong.
_MANY = 100

#: A SKU, what it must be, and what is kept of it.
_Wrong = tuple[str, Sku, Fields]


class Work(Protocol):
    """Takes the portions of one process. Every method raises `Outage` without Redis."""

    def take(self, portion: Portion) -> Counts:
        """Do one portion; doing it again does no harm."""
        ...


class Mend:
    """Mends the live space beside the workers.

    A row is taken if its version is not lower than the stored one, so live changes win. What looks
    like a change on its way through a worker is looked at again for `patience` seconds, and only
    mended if it is still there then.
    """

    def __init__(self, live: Redis, policies: PolicySet, *, patience: float = 0.5) -> None:
        self._space = Space(live)
        self._policies = policies
        self._patience = patience

    def take(self, portion: Portion) -> Counts:
        """See `Work.take`.

        Raises:
            Outage: workers wrote the same SKUs again and again.
        """
        mended = readers = unplaced = 0
        changes = portion.changes
        pending = list(changes)
        deadline = time.monotonic() + self._patience
        for _ in range(_ATTEMPTS):
            wrong, moving = self._look(pending, changes)
            if len(moving) > _MANY or time.monotonic() >= deadline:
                wrong, moving = [*wrong, *moving], []
            refused = {*self._space.replace(wrong)}
            for sku, wanted, _ in wrong:
                if sku not in refused:
                    mended += wanted.anew
                    readers += not wanted.anew
                    unplaced += PARTITION_FIELD not in wanted.stock
            pending = [*refused, *(sku for sku, _, _ in moving)]
            if not pending:
                skus, rejected = len(changes), portion.rejected
                return Counts(portion.records, skus, mended, readers, unplaced, rejected)
            if moving:
                time.sleep(self._patience / _LOOKS)
        raise Outage(
            f"Workers changed {len(pending)} SKUs, such as {pending[0]!r}, {_ATTEMPTS} times while "
            "they were mended."
        )

    def _look(
        self, skus: Sequence[str], changes: Mapping[str, SkuChanges]
    ) -> tuple[list[_Wrong], list[_Wrong]]:
        """The SKUs that are wrong, and those that look as if they were just being written."""
        wrong: list[_Wrong] = []
        moving: list[_Wrong] = []
        for sku, kept in zip(skus, self._space.read(skus, readers=True), strict=True):
            wanted, rows = wanted_of(sku, kept, changes[sku], self._policies)
            if not is_right(wanted, kept):
                there = moving if in_flight(kept.stock, rows) else wrong
                there.append((sku, wanted, kept.stock))
        return wrong, moving


class Load:
    """Loads a space that readers do not see yet, from the source's rows and the live projections.

    What was told last comes from the live space: versions do not go back, and alerts are not
    raised again. Where the live numbers are not those of the rows, the SKU is noted as a suspect
    until they are: what the channels were told of it is wrong.
    """

    def __init__(self, live: Redis, shadow: Redis, policies: PolicySet, owner: str) -> None:
        self._fence = Fence(owner, REBUILD_KEY, SUSPECTS_KEY)
        self._live = Space(live)
        self._shadow = Space(shadow)
        self._policies = policies

    def take(self, portion: Portion) -> Counts:
        """See `Work.take`.

        Raises:
            RebuildError: the shadow is another run's, or was emptied.
            Outage: other processes wrote the same SKUs again and again.
        """
        pending = list(portion.changes)
        for _ in range(_ATTEMPTS):
            if not pending:
                skus = len(portion.changes)
                return Counts(portion.records, skus, rejected=portion.rejected)
            refused = self._shadow.load(self._loaded(pending, portion.changes), self._fence)
            if refused is None:
                raise RebuildError(f"{REFUSALS['owner']} {AGAIN}")
            pending = refused
        raise Outage(
            f"Other processes loaded {len(pending)} SKUs, such as {pending[0]!r}, {_ATTEMPTS} "
            "times meanwhile."
        )

    def _loaded(self, skus: Sequence[str], changes: Mapping[str, SkuChanges]) -> Iterator[Loaded]:
        there = self._shadow.read(skus, readers=False)
        told = self._live.read(skus, readers=False)
        for sku, shadow, live in zip(skus, there, told, strict=True):
            rows = raised(rows_of(shadow.stock), changes[sku])
            rows |= _commits(rows, live.stock)
            last = live.stock if PUBLISHED_FIELD in live.stock else shadow.stock
            # Other rows under the revision that is there would be missed by who has read it before.
            there_now = int(shadow.stock.get(REVISION_FIELD, b"0"))
            partition = changes[sku].partition
            wanted = build(sku, rows, last, self._policies, partition, above=there_now)
            untold = PUBLISHED_FIELD in wanted.stock and last is not live.stock
            yield Loaded(sku, wanted, wanted.anew or untold, shadow.stock)


class Check:
    """Compares a space with rows of Postgres, whole SKUs at a time, and notes those that differ."""

    def __init__(self, space: Redis, policies: PolicySet) -> None:
        self._space = Space(space)
        self._policies = policies

    def take(self, portion: Portion) -> Counts:
        """See `Work.take`."""
        wrong = self.differing(portion.changes)
        if wrong:
            with redis_outages():
                self._space.redis.sadd(DIFFERING_KEY, *wrong)
        return Counts(portion.records, len(portion.changes), rejected=portion.rejected)

    def differing(self, changes: Mapping[str, SkuChanges]) -> list[str]:
        """The SKUs that are not as these rows say, which are all that the SKUs have."""
        skus = list(changes)
        found = zip(skus, self._space.read(skus, readers=True), strict=True)
        return [sku for sku, kept in found if not self._agrees(sku, kept, changes[sku])]

    def listed(self, skus: Sequence[str]) -> list[str]:
        """Of SKUs that have no rows, those that the space has some of."""
        found = zip(skus, self._space.read(skus, readers=True), strict=True)
        return [
            sku
            for sku, kept in found
            if kept.readers
            or not all(decode_row(*row).deleted for row in rows_of(kept.stock).items())
        ]

    def _agrees(self, sku: str, kept: Kept, changes: SkuChanges) -> bool:
        rows = rows_of(kept.stock)
        there = {name: text for name, text in rows.items() if not decode_row(name, text).deleted}
        expected = raised({}, changes)
        return (
            there.keys() == expected.keys()
            and all(same_but_commit(name, text, there[name]) for name, text in expected.items())
            and is_right(build(sku, rows, kept.stock, self._policies, None), kept)
        )


def wanted_of(
    sku: str, kept: Kept, changes: SkuChanges, policies: PolicySet
) -> tuple[Sku, Mapping[bytes, bytes]]:
    """What a SKU must be, with these changes in what is kept of it; and its rows."""
    rows = raised(rows_of(kept.stock), changes)
    return build(sku, rows, kept.stock, policies, changes.partition), rows


def is_right(wanted: Sku, kept: Kept) -> bool:
    """Whether a SKU is as it must be: both hashes, and nothing else in the readers'."""
    if wanted.stock != kept.stock:
        return False
    fields = iter(wanted.readers)
    readers = {name.encode(): value.encode() for name, value in zip(fields, fields, strict=True)}
    return readers == kept.readers


def _commits(rows: Mapping[bytes, bytes], live: Fields) -> dict[bytes, bytes]:
    """Rows of the live space that say the same, and know when they were committed."""
    return {
        name: live[name]
        for name, row in rows.items()
        if name in live and live[name] != row and same_but_commit(name, row, live[name])
    }
