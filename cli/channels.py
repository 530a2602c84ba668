"""`stockwire channels`: who is told, and how far."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import orjson
import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from audit.postgres import read_policies
from cli.channel_rows import override_counts, warehouses_text
from cli.channel_standings import read_channel_standings
from cli.explain_view import percent, time_text
from cli.standing import Standing, State
from inventory.messages import timestamp
from inventory.policy import SHARE_UNITS, ChannelPolicy
from inventory.settings import load_settings

_STYLES = {State.LIVE: "green", State.TOLD: "yellow", State.BEHIND: "red", State.UNKNOWN: "red"}


def channels(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per channel.")] = False,
) -> None:
    """List the channels, their policies, and how far each has been told.

    A policy is a row: edit it in SQL, for all SKUs in `inventory.channel`, for one SKU in
    `inventory.channel_sku`, where null takes the channel's value:

        UPDATE inventory.channel SET buffer = 5 WHERE name = 'web';

        INSERT INTO inventory.channel_sku (channel, sku, blocked) VALUES ('web', 'SKU-00001', true)
        ON CONFLICT (channel, sku) DO UPDATE SET blocked = excluded.blocked;
    """
    settings = load_settings()
    conninfo = settings.conninfo()
    policies = read_policies(conninfo)
    counts = override_counts(conninfo)
    standings = read_channel_standings(settings, policies)
    if as_json:
        for policy in policies:
            print(
                orjson.dumps(
                    as_dict(policy, counts.get(policy.name, 0), standings[policy.name])
                ).decode()
            )
        return
    console = Console(markup=False, highlight=False)
    console.print(table_of(policies, counts, standings))
    for policy in policies:
        standing = standings[policy.name]
        if standing.reason is not None:
            console.print(f"{policy.name} is {standing_text(standing)}", soft_wrap=True)


def table_of(
    policies: Sequence[ChannelPolicy],
    overrides: Mapping[str, int],
    standings: Mapping[str, Standing],
) -> Table:
    """A line for each channel; it fits into 100 columns with names of an ordinary length."""
    table = Table(box=SIMPLE, pad_edge=False, padding=(0, 1, 0, 0))
    blocked = any(policy.blocked for policy in policies)
    table.add_column("channel", no_wrap=True)
    table.add_column("kind", no_wrap=True)
    table.add_column("topic", overflow="fold")
    table.add_column("warehouses", overflow="fold")
    for name in ("buffer", "share", *(["blocked"] if blocked else []), "overrides"):
        table.add_column(name, justify="right")
    table.add_column("state", no_wrap=True)
    table.add_column("backlog", justify="right")
    for policy in policies:
        standing = standings[policy.name]
        short = standing_text(standing) if standing.reason is None else standing.state.value
        table.add_row(
            policy.name,
            policy.kind,
            policy.topic,
            "all" if policy.warehouses is None else warehouses_text(policy),
            f"{policy.buffer:,}",
            percent(policy.share),
            *(["yes" if policy.blocked else "no"] if blocked else []),
            f"{overrides.get(policy.name, 0):,}",
            Text(short, style=_STYLES[standing.state]),
            "" if standing.backlog is None else f"{standing.backlog:,}",
        )
    return table


def standing_text(standing: Standing) -> str:
    """How a channel stands, in a few words."""
    match standing.state:
        case State.TOLD:
            return f"being told {standing.told}/{standing.partitions}"
        case State.BEHIND if standing.since is not None:
            since = time_text(round(standing.since * 1e6))
            return f"behind since {since}: {standing.reason or 'not known why'}"
        case State.BEHIND | State.UNKNOWN:
            return f"{standing.state}: {standing.reason or 'not known why'}"
        case State.LIVE:
            return "live"


def as_dict(policy: ChannelPolicy, overrides: int, standing: Standing) -> dict[str, Any]:
    """A channel as JSON shows it."""
    since = standing.since
    return {
        "channel": policy.name,
        "kind": policy.kind,
        "topic": policy.topic,
        "warehouses": policy.warehouses,
        "buffer": policy.buffer,
        "share": policy.share / SHARE_UNITS,
        "blocked": policy.blocked,
        "version": policy.version,
        "overrides": overrides,
        "state": standing.state,
        "partitions_told": standing.told,
        "partitions": standing.partitions,
        "backlog": standing.backlog,
        "since": None if since is None else timestamp(round(since * 1_000_000)),
        "reason": standing.reason,
    }
