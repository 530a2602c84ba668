"""`stockwire channel-new` and `channel-remove`: a channel joins, a channel leaves."""

import sys
import time
from contextlib import closing
from typing import Annotated

import typer
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from rich.console import Console

from audit.postgres import read_policies
from audit.topics import open_consumer
from cli.backfill import Backfill, SnapshotEnds
from cli.bringup import Progress
from cli.channel_rows import (
    add_channel,
    check_new_channel,
    find_channel,
    remove_channel,
    warehouse_codes,
)
from cli.channel_standings import is_told_of
from connectors.topics import ensure_topics
from inventory.errors import TopicError
from inventory.policy import ChannelKind, ChannelPolicy
from inventory.settings import Settings, load_settings
from inventory.topics import channel_topic_spec
from stockwire_client.names import channel_topic

_POLL_SECONDS = 0.2
_SAY_SECONDS = 1.0

_GOES_ON = "it goes on by itself while the workers run; see how far it is with: stockwire channels"

_Patience = Annotated[float, typer.Option(min=0, help="Seconds to wait for it.")]


def channel_new(
    name: Annotated[str, typer.Argument(help="The channel's name, e.g. marketplace.")],
    kind: Annotated[ChannelKind, typer.Option(help="What it is told.")],
    warehouses: Annotated[
        str | None,
        typer.Option(help="Where it sells from, first the preferred one, e.g. WH-1,WH-2; or all."),
    ] = None,
    topic: Annotated[
        str | None, typer.Option(help="Its topic; stock.<name>.v1 when left out.")
    ] = None,
    patience: _Patience = 600,
) -> None:
    """Make a channel: its topic, its row, and a back-fill of the current state.

    A channel of kind `availability` is told what it may promise of each SKU, `level` each stock
    row, `movement` every change of stock. Returns when the topic shows the complete snapshot;
    from then on come the changes. Run twice, it changes nothing.

    Its policy is its row. Edit it in SQL; within a second the numbers follow:

        UPDATE inventory.channel SET buffer = 5, share = 0.8 WHERE name = 'marketplace';

        UPDATE inventory.channel SET blocked = true WHERE name = 'marketplace';

    Example: `stockwire channel-new marketplace --kind availability --warehouses WH-1,WH-2`
    """
    settings = load_settings()
    wanted = ChannelPolicy(
        name,
        kind,
        channel_topic(name) if topic is None else topic,
        tuple(code.strip() for code in warehouses.split(",")) if warehouses else None,
    )
    conninfo = settings.conninfo()
    if not check_new_channel(wanted, read_policies(conninfo), warehouse_codes(conninfo)):
        print(
            f"The channel {name} is there already, of kind {kind} on {wanted.topic}: nothing has "
            "changed."
        )
        return
    console = Console(highlight=False)
    started = time.monotonic()
    with (
        closing(open_consumer(settings.kafka_bootstrap)) as consumer,
        Progress(console) as say,
    ):
        say(f"creating the topic {wanted.topic}")
        ensure_topics(
            settings.kafka_bootstrap,
            [channel_topic_spec(wanted.topic, kind)],
            settings.partitions,
            say=say,
        )
        # Its end is noted before the row: nothing of the back-fill can come earlier.
        backfill = Backfill(consumer, wanted.topic)
        add_channel(conninfo, wanted)
        complete = _wait_for_backfill(backfill, patience, say, name)
    if not complete:
        print(f"{name} has not been told everything within {patience:.0f} s; {_GOES_ON}.")
        raise typer.Exit(1)
    console.print(
        f"{name} is live: {backfill.seen.messages:,} messages of back-fill on {wanted.topic}, "
        f"{time.monotonic() - started:.1f} s."
    )
    console.print(_how_to_subscribe(wanted, settings))


def channel_remove(
    name: Annotated[str, typer.Argument(help="The channel's name.")],
    delete_topic: Annotated[
        bool, typer.Option("--delete-topic/--keep-topic", help="Whether its topic goes as well.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    patience: _Patience = 600,
) -> None:
    """Remove a channel: its row, its fields in Redis, and its keys by tombstones.

    What SKUs have of their own there (`inventory.channel_sku`) goes with it. Its topic stays
    unless told otherwise: with tombstones for all keys, so that its subscribers clear what they
    have.
    """
    settings = load_settings()
    policy = find_channel(name, read_policies(settings.conninfo()))
    if not yes and sys.stdin.isatty():
        what = f"the channel {name} and its topic {policy.topic}" if delete_topic else name
        typer.confirm(f"Remove {what}?", abort=True)
    console = Console(highlight=False)
    with Progress(console) as say:
        say(f"removing {name}")
        remove_channel(settings.conninfo(), name)
        gone = _wait_until_gone(settings, policy, patience, say)
    if not gone:
        kept = " The topic is kept until then." if delete_topic else ""
        print(f"Not all of {name} is gone after {patience:.0f} s; {_GOES_ON}.{kept}")
        raise typer.Exit(1)
    if delete_topic:
        _delete_topic(settings.kafka_bootstrap, policy.topic)
        print(f"{name} is gone, and so is its topic {policy.topic}.")
        return
    print(f"{name} is gone. {_what_stays(policy)}")


def _wait_for_backfill(backfill: Backfill, patience: float, say: Progress, name: str) -> bool:
    told = time.monotonic()

    def look(seen: SnapshotEnds) -> None:
        nonlocal told
        if time.monotonic() - told >= _SAY_SECONDS:
            told = time.monotonic()
            say(f"telling {name} of everything: {seen.progress}")

    try:
        return backfill.wait(patience, look)
    except KeyboardInterrupt:
        print(f"Not waiting any longer; {_GOES_ON}.")
        raise


def _wait_until_gone(
    settings: Settings, policy: ChannelPolicy, patience: float, say: Progress
) -> bool:
    deadline = time.monotonic() + patience
    say(f"telling the subscribers of {policy.name} that it is gone")
    try:
        while is_told_of(settings, policy):
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_SECONDS)
    except KeyboardInterrupt:
        print(f"The row is deleted. Not waiting for the rest; {_GOES_ON}.")
        raise
    return True


def _delete_topic(bootstrap: str, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    try:
        admin.delete_topics([topic], operation_timeout=30)[topic].result()
    except KafkaException as exc:
        raise TopicError(
            f"The channel is gone, but Kafka refused to delete {topic}: {exc.args[0].str()}."
        ) from exc


def _what_stays(policy: ChannelPolicy) -> str:
    if policy.kind is ChannelKind.MOVEMENT:
        return f"Its topic {policy.topic} stays, and each movement in it for a week."
    return (
        f"Its topic {policy.topic} stays, with a tombstone for every key: subscribers that read on "
        "clear what they have. Delete the topic when nobody reads it any more."
    )


def _how_to_subscribe(policy: ChannelPolicy, settings: Settings) -> str:
    return (
        f"Follow it with: stockwire tail {policy.name} --from-start\n"
        f"Subscribe to the topic {policy.topic} on {settings.kafka_bootstrap}; client/README.md "
        "has it in five lines of Python."
    )
