"""Writes stock changes into Redis, guarded so that replays and concurrent writers do no harm.

A write has two steps, since the formula lives in Python alone (`inventory.availability`):

1. `apply.lua` writes the rows that are newer and returns the SKUs' whole state;
2. `project.lua` writes what the channels are told, if the state is still the one it was computed
   from. Whoever is refused starts again at step 1 with that SKU, where its rows are no-ops.

A crash between the two leaves a state that is ahead of its projection; the replay of the same
changes, which must come because their offset was not committed, finds and projects it.

Redis may lose what it has acknowledged. The writer knows how far it was told (`begin`), and looks
twice whether Redis still does: behind the rows of step 1, so that nothing is projected from a state
with holes, and in `checkpoint.lua`, so that no checkpoint is ever raised over one.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, TypeVar

import orjson
import structlog
from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError, ResponseError

from inventory.errors import Outage
from inventory.names import stock_key
from inventory.policy import PolicySet
from inventory.projection import SkuProjection, SkuState, project
from projections.checkpoint import CHECKPOINT_KEY, Known, compare
from projections.codec import (
    availability_fields,
    decode_state,
    encode_level,
    encode_override,
    encode_projection,
)
from projections.fields import ALERTED, OVERRIDE_PREFIX
from projections.outage import redis_outages
from projections.ports import (
    NOTHING_REPLACED,
    Changes,
    Checkpoint,
    Replaced,
    SkuChanges,
    Written,
)
from projections.script import Command, Script
from stockwire_client.names import availability_key

log = structlog.stdlib.get_logger(__name__)

_Item = TypeVar("_Item")


_APPLY = Script("apply.lua")
_PROJECT = Script("project.lua")
_CHECKPOINT = Script("checkpoint.lua")


class ProjectionWriter:
    """The `projections.ports.Projector` that keeps its state in Redis.

    Args:
        redis: a client with `decode_responses=False`.
        skus_per_call: the most SKUs in one script call; Redis serves nobody else meanwhile.
        attempts: how often a SKU is projected that other writers keep changing.
    """

    def __init__(self, redis: Redis, *, skus_per_call: int = 100, attempts: int = 20) -> None:
        self._redis = redis
        self._skus_per_call = skus_per_call
        self._attempts = attempts
        self._known = Known()

    def begin(self, known: Checkpoint, restoring: Collection[int] = ()) -> None:
        """See `projections.ports.Projector.begin`."""
        self._known.begin(known, restoring)

    async def check(self) -> None:
        """See `projections.ports.Projector.check`. One round trip.

        Raises:
            ProjectionLost: less is kept than was acknowledged.
            Outage: Redis takes no work.
        """
        with redis_outages():
            await self._compared([])

    async def load(self, changes: Changes, checkpoint: Checkpoint) -> None:
        """See `projections.ports.Projector.load`. One round trip.

        Raises:
            ProjectionLost: less is kept than was acknowledged.
            Outage: Redis takes no work.
        """
        with redis_outages():
            raised = self._raising(changes, checkpoint)
            replies = await self._send([*self._applying(changes, "quiet"), *raised])
            if raised:
                self._known.raised(checkpoint, replies[-1])

    async def write(
        self,
        changes: Changes,
        policies: PolicySet,
        checkpoint: Checkpoint,
        partitions: Collection[int] | None = None,
    ) -> Written:
        """See `projections.ports.Projector.write`. Two round trips, or one for a pure replay.

        Raises:
            ProjectionLost: less is kept than was acknowledged.
            Outage: Redis takes no work, or other writers were faster `attempts` times.
        """
        with redis_outages():
            projections: dict[str, SkuProjection] = {}
            came_from: dict[str, int | None] = {}
            replayed: set[str] = set()
            unalerted: set[str] = set()
            overtaken: dict[str, SkuProjection] = {}
            pending: Changes = changes
            raised = self._raising(changes, checkpoint)
            for _ in range(self._attempts):
                stale: list[SkuProjection] = []
                uncounted: set[str] = set()
                for state in await self._apply(pending):
                    if partitions is not None and state.partition not in partitions:
                        continue
                    came_from[state.sku] = state.partition
                    if state.levels and not state.revision:
                        # No write of ours leaves it so: a repair counts it up anew.
                        uncounted.add(state.sku)
                        continue
                    projection = project(state, policies)
                    projections[state.sku] = projection
                    if projection.revision != state.revision:
                        stale.append(projection)
                        if state.unalerted is not None:
                            overtaken[state.sku] = state.unalerted
                        continue
                    replayed.add(state.sku)
                    if state.unalerted is not None:
                        unalerted.add(state.sku)
                refused = await self._project(stale, raised, checkpoint)
                if not refused and not uncounted:
                    return Written(
                        [projections[sku] for sku in changes if sku in projections],
                        came_from,
                        frozenset(replayed),
                        frozenset(unalerted),
                        tuple(overtaken.values()),
                    )
                # A repair counts as a change once: two of them would refuse each other forever.
                pending = {
                    sku: changes[sku]._replace(repair=sku in uncounted)
                    for sku in (*refused, *uncounted)
                }
                raised = []
        raise Outage(
            f"Other writers changed {len(pending)} SKUs, such as {next(iter(pending))!r}, "
            f"{self._attempts} times while they were projected; the batch is tried again."
        )

    async def alerted(self, versions: Mapping[str, int]) -> None:
        """See `projections.ports.Projector.alerted`.

        Raises:
            Outage: Redis takes no work.
        """
        with redis_outages():
            for reply in await self._execute(
                [("HSET", stock_key(sku), ALERTED, version) for sku, version in versions.items()]
            ):
                if isinstance(reply, RedisError):
                    raise reply

    async def _apply(self, changes: Changes) -> Iterator[SkuState]:
        """Step 1: write what is newer; the state of each SKU afterwards, if nothing is missing."""
        replies = await self._compared(self._applying(changes))
        return map(_state, changes, chain.from_iterable(replies))

    def _applying(self, changes: Changes, *options: str) -> list[Command]:
        commands = []
        for chunk in self._chunks(list(changes.items())):
            keys = [stock_key(sku).encode() for sku, _ in chunk]
            rows = [_rows(changed) for _, changed in chunk]
            commands.append(_APPLY.call(keys, orjson.dumps(rows), *options))
        return commands

    async def _compared(self, commands: Sequence[Command]) -> list[Any]:
        """The replies, if Redis had all that it has acknowledged when it gave the last of them.

        Behind the commands: what is lost before the comparison shows in it, and a SKU that is lost
        after it is refused by `project.lua`.
        """
        least = self._known.least()
        if not least:
            return await self._send(commands)
        *replies, stored = await self._send([*commands, ("HMGET", CHECKPOINT_KEY, *least)])
        compare(least, stored)
        return replies

    async def _project(
        self,
        projections: Sequence[SkuProjection],
        raised: Sequence[Command],
        checkpoint: Checkpoint,
    ) -> list[str]:
        """Step 2: write projections, and the checkpoint behind them; the refused SKUs."""
        commands = []
        chunks = list(self._chunks(projections))
        for chunk in chunks:
            keys: list[bytes] = []
            arguments = []
            for projection in chunk:
                sku, revision = projection.sku, projection.revision
                keys += (stock_key(sku).encode(), availability_key(sku).encode())
                arguments.append(
                    (
                        str(revision - 1),
                        str(revision),
                        encode_projection(projection),
                        availability_fields(projection),
                    )
                )
            commands.append(_PROJECT.call(keys, orjson.dumps(arguments)))
        replies = await self._send([*commands, *raised])
        if raised:
            self._known.raised(checkpoint, replies[-1])
        return [
            chunk[position].sku
            for chunk, refused in zip(chunks, replies, strict=False)
            for position in refused
        ]

    def _raising(self, changes: Changes, checkpoint: Checkpoint) -> list[Command]:
        """The command that raises checkpoints, if there is anything to raise."""
        if not checkpoint:
            return []
        rows = (each.levels.values() for each in changes.values() if not each.ghost)
        versions = [level.version for levels in rows for level in levels]
        arguments = self._known.raising(checkpoint, max(versions, default=None))
        return [_CHECKPOINT.call((CHECKPOINT_KEY.encode(),), *arguments)]

    async def _send(self, commands: Sequence[Command]) -> list[Any]:
        """Commands in one round trip; their replies. Every script may be called twice."""
        if not commands:
            return []
        replies = await self._execute(commands)
        if any(isinstance(reply, NoScriptError) for reply in replies):
            load = [script.load for script in (_APPLY, _PROJECT, _CHECKPOINT)]
            replies = await self._execute([*load, *commands])
            del replies[: len(load)]
        for reply in replies:
            if isinstance(reply, RedisError):
                raise reply
        return replies

    async def _execute(self, commands: Sequence[Command]) -> list[Any]:
        if len(commands) == 1:
            # A pipeline of one costs half as much again.
            try:
                reply = await self._redis.execute_command(*commands[0])  # type: ignore[no-untyped-call]
            except ResponseError as exc:
                return [exc]
            return [reply]
        async with self._redis.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            return await pipeline.execute(raise_on_error=False)

    def _chunks(self, items: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
        for start in range(0, len(items), self._skus_per_call):
            yield items[start : start + self._skus_per_call]


def _state(sku: str, flat: Sequence[bytes]) -> SkuState:
    """As `decode_state`; says what is left out."""
    state = decode_state(sku, flat)
    if state.unreadable:
        log.warning(
            "fields of the working state cannot be read, and are left out until the auditor has "
            "mended them",
            sku=sku,
            fields=state.unreadable,
        )
    return state


def _rows(changes: SkuChanges) -> list[str | dict[str, str]]:
    """The rows of a SKU as `apply.lua` takes them."""
    partition = "" if changes.partition is None else str(changes.partition)
    rows: list[str | dict[str, str]] = [
        partition,
        "1" if changes.repair else "",
        _replaced(changes.replaced),
    ]
    for code, level in changes.levels.items():
        rows += (code, encode_level(level))
    for channel, override in changes.overrides.items():
        rows += (f"{OVERRIDE_PREFIX}{channel}", encode_override(override))
    return rows


def _replaced(versions: Replaced) -> str | dict[str, str]:
    """The versions to be replaced as `apply.lua` takes them, as text; none for almost all SKUs."""
    if versions is NOTHING_REPLACED:
        return ""
    levels, overrides = versions
    return {
        **{code: str(version) for code, version in levels.items()},
        **{f"{OVERRIDE_PREFIX}{channel}": str(version) for channel, version in overrides.items()},
    }
