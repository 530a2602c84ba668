"""`stockwire get` and `stockwire tail`: what readers and subscribers see."""

import os
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated, Any

import orjson
import typer
from redis import Redis
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from audit.postgres import read_policies
from audit.projection import UNREADABLE
from audit.sku import read_state
from cli.follow import ChannelMessage, follow
from inventory.errors import AuditError, NotFound
from inventory.names import stock_key
from inventory.policy import ChannelPolicy
from inventory.projection import SkuState
from inventory.settings import load_settings
from projections.reader import AvailabilityReader
from stockwire_client.names import availability_key
from stockwire_client.reader import ChannelAvailability

_Channels = Mapping[str, ChannelAvailability]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def get(
    sku: Annotated[str, typer.Argument(help="The SKU, e.g. SKU-00001.")],
    channel: Annotated[
        str | None, typer.Option(help="Only this channel, e.g. web; all when left out.")
    ] = None,
    as_json: _Json = False,
) -> None:
    """Show what each channel may promise of a SKU, and its rows per warehouse, as Redis has them.

    Example: `stockwire get SKU-00001 --channel web`
    """
    channels: _Channels
    with Redis.from_url(str(load_settings().redis_url)) as redis:
        try:
            channels = AvailabilityReader(redis).get_all(sku)
            state = read_state(redis, sku)
        except UNREADABLE as exc:
            raise AuditError(
                f"What Redis has of {sku} was not written by Stockwire ({exc}): delete "
                f"{stock_key(sku)} and {availability_key(sku)}, then change a row of the SKU."
            ) from exc
    if not state.levels and not channels:
        raise NotFound(
            f"There is no SKU {sku!r} in Redis: check its spelling, and with `stockwire status` "
            "that the availability worker runs."
        )
    if channel is not None and channel not in channels:
        listed = ", ".join(sorted(channels)) or "no channel"
        raise NotFound(f"{sku} is not listed on the channel {channel!r}, but on {listed}.")
    if channel is not None:
        channels = {channel: channels[channel]}
    if as_json:
        print(orjson.dumps(_sku_json(state, channels)).decode())
    else:
        _print_sku(state, channels, Console(markup=False, highlight=False))


def tail(
    channel: Annotated[str, typer.Argument(help="The channel, e.g. web, app, wms or erp.")],
    sku: Annotated[str | None, typer.Option(help="Only messages about this SKU.")] = None,
    from_start: Annotated[
        bool, typer.Option("--from-start", help="Begin with the oldest message that is kept.")
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="End after so many messages.")] = None,
    as_json: _Json = False,
) -> None:
    """Follow a channel's topic as its subscribers see it, until Ctrl-C.

    A line ends with the time from the commit in Postgres to the arrival here; for a message that
    was there before, to its arrival in Kafka.

    Examples: `stockwire tail web --sku SKU-00001`, `stockwire tail erp --from-start --limit 10`
    """
    settings = load_settings()
    topic = _topic(channel, read_policies(settings.conninfo()))
    messages = follow(settings.kafka_bootstrap, topic, from_start=from_start)
    wanted = (message for message in messages if sku is None or message.is_about(sku))
    try:
        for message in islice(wanted, limit):
            print(message_json(message) if as_json else message_line(message), flush=True)
    except BrokenPipeError:
        # The reader, such as `head`, has enough; nothing may complain when Python flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def message_json(message: ChannelMessage) -> str:
    """A message as one line of JSON."""
    fields = {
        "topic": message.topic,
        "partition": message.partition,
        "offset": message.offset,
        "key": message.key,
        "value": message.value,
        "latency_ms": message.latency_ms,
    }
    return orjson.dumps(fields).decode()


def message_line(message: ChannelMessage) -> str:
    """A message as one line for people."""
    arrived = datetime.fromtimestamp(message.arrived_us / 1e6, UTC).astimezone()
    latency = "" if message.latency_ms is None else f"  +{message.latency_ms:.1f} ms"
    said = _content(message.value)
    if message.value is None and message.key.startswith(":snapshot/"):
        said = "end of this part of a back-fill"
    return f"{arrived:%H:%M:%S.%f}"[:-3] + f"  {message.key}  {said}{latency}"


def _content(value: Any) -> str:
    match value:
        case None:
            return "gone"
        case {"available": available, "status": status, "previous_available": previous}:
            before = "new" if previous is None else f"was {previous}"
            return f"available {available} ({before})  {status}"
        case {"delta_on_hand": int(moved), "delta_reserved": int(reserved)}:
            return (
                f"{value['warehouse']}  on hand {moved:+} = {value['on_hand']}  "
                f"reserved {reserved:+} = {value['reserved']}  {_why(value)}"
            )
        case {"kind": "balance"}:
            return (
                f"{value['warehouse']}  balance: on hand {value['on_hand']}  "
                f"reserved {value['reserved']}"
            )
        case {"on_hand": on_hand, "reserved": reserved, "available": available}:
            return f"on hand {on_hand}  reserved {reserved}  available {available}  {_why(value)}"
        case _:
            return str(value)


def _why(value: Mapping[str, Any]) -> str:
    return " ".join(filter(None, (value.get("reason"), value.get("reference")))) or "no reason"


def _topic(channel: str, policies: Iterable[ChannelPolicy]) -> str:
    topics = {policy.name: policy.topic for policy in policies}
    if channel not in topics:
        known = ", ".join(topics) or "none yet"
        raise NotFound(f"There is no channel {channel!r}; the channels are {known}.")
    return topics[channel]


def _sku_json(state: SkuState, channels: _Channels) -> dict[str, Any]:
    return {
        "sku": state.sku,
        "channels": {name: told._asdict() for name, told in sorted(channels.items())},
        "warehouses": {code: row._asdict() for code, row in sorted(state.levels.items())},
    }


def _print_sku(state: SkuState, channels: _Channels, console: Console) -> None:
    promised = Table(
        "channel", "available", "status", "version", "as of", "ago", box=SIMPLE, pad_edge=False
    )
    now = datetime.now(UTC)
    for name, told in sorted(channels.items()):
        promised.add_row(
            name,
            str(told.available),
            told.status,
            str(told.version),
            f"{told.as_of.astimezone():%d %b %H:%M:%S}",
            _ago((now - told.as_of).total_seconds()),
        )
    rows = Table(
        "warehouse",
        "on hand",
        "reserved",
        "safety",
        "incoming",
        "free",
        "version",
        box=SIMPLE,
        pad_edge=False,
    )
    for code, row in sorted(state.levels.items()):
        numbers = (row.on_hand, row.reserved, row.safety_stock, row.incoming, row.free)
        version = f"{row.version} (deleted)" if row.deleted else str(row.version)
        rows.add_row(code, *map(str, numbers), version)
    console.print(state.sku)
    if channels:
        console.print(promised)
    else:
        console.print("not listed on any channel")
    console.print(rows)


def _ago(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h"
