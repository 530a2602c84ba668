"""All faults: the table of the suite. Those with `short` also run in `make test`."""

from functools import partial

from tests.chaos.fault import Fault
from tests.chaos.faults.clock import wrong_clock
from tests.chaos.faults.connect import bulk_away, during_snapshot, during_transactions
from tests.chaos.faults.copy import copied_away, during_copy
from tests.chaos.faults.disk import full, no_mount
from tests.chaos.faults.failover import failover
from tests.chaos.faults.members import away, come_and_go
from tests.chaos.faults.messages import corrupt, oversized, stale
from tests.chaos.faults.network import blackhole, latency, reset
from tests.chaos.faults.onlookers import (
    auditor_heals,
    guardian_watches,
    healed_by_auditor,
    undisturbed,
)
from tests.chaos.faults.postgres import ddl, primary_keys, terminate_walsender, wrong_password
from tests.chaos.faults.redis import (
    add_ghost,
    delete_key,
    flush_all,
    restart_behind,
    restart_empty,
)
from tests.chaos.faults.signals import freeze, kill
from tests.chaos.faults.wal import slot_dropped, wal_removed

_PARTS = ("availability", "ledger", "redis", "kafka", "connect", "postgres")

#: Who talks to whom, and of how many answers one is cut off so that a worker gets on between two.
_PAIRS = (
    ("availability", "redis", 200),
    ("availability", "kafka", 200),
    ("ledger", "kafka", 200),
    ("connect", "kafka", 200),
    ("connect", "postgres", 200),
)

#: Those who look on, at whom, and of how many answers one is cut off; and what they must still do.
_ONLOOKERS = (
    ("auditor", "kafka", 20, auditor_heals),
    ("auditor", "redis", 5, auditor_heals),
    ("auditor", "postgres", 5, auditor_heals),
    ("guardian", "postgres", 10, guardian_watches),
    ("guardian", "redis", 2, guardian_watches),
    ("guardian", "connect", 2, guardian_watches),
)

#: What Redis has lost is replayed from the beginning of the stock topic: of an hour of `make chaos`
#: those are more than a million changes.
_REPLAY_SECONDS = 180.0

AUDITOR, RECOVER = "the auditor", "a person: `stockwire recover slot`"

_KILLS = tuple(
    Fault(f"kill {part}", f"kill -9 of {part}", partial(kill, part=part), short=True)
    for part in _PARTS
)
_FREEZES = tuple(
    Fault(
        f"freeze {part}",
        f"SIGSTOP of {part} for 10 s or more, past the session timeout, then SIGCONT",
        partial(freeze, part=part),
        short=part == "availability",
    )
    for part in _PARTS
)
_NETWORK = tuple(
    fault
    for client, server, every in _PAIRS
    for fault in (
        Fault(
            f"latency {client}-{server}",
            f"{client} to {server}: 200 ms each way, for 10 s",
            partial(latency, client=client, server=server),
        ),
        Fault(
            f"blackhole {client}-{server}",
            f"{client} to {server}: nothing arrives for 15 s",
            partial(blackhole, client=client, server=server),
        ),
        Fault(
            f"reset {client}-{server}",
            f"{client} to {server}: reset after the write and before the reply, three times",
            partial(reset, client=client, server=server, every=every),
            short=(client, server) == ("availability", "redis"),
        ),
    )
)

_BESIDE = tuple(
    fault
    for client, server, every, then in _ONLOOKERS
    for fault in (
        Fault(
            f"blackhole {client}-{server}",
            f"{client} to {server}: nothing arrives for 15 s",
            partial(undisturbed, run=partial(blackhole, client=client, server=server)),
            then=then,
        ),
        Fault(
            f"reset {client}-{server}",
            f"{client} to {server}: reset after the write and before the reply, three times",
            partial(undisturbed, run=partial(reset, client=client, server=server, every=every)),
            then=then,
        ),
    )
)

FAULTS: tuple[Fault, ...] = (
    *_KILLS,
    *_FREEZES,
    Fault(
        "come and go availability",
        "a second availability worker joins and leaves every 5 s, by SIGTERM and SIGKILL in turn",
        partial(come_and_go, agent="availability"),
    ),
    Fault(
        "come and go ledger",
        "a second ledger worker joins and leaves every 5 s, by SIGTERM and SIGKILL in turn",
        partial(come_and_go, agent="ledger"),
    ),
    Fault(
        "kafka away",
        "the broker is stopped for two minutes",
        partial(away, part="kafka"),
        patience=120.0,
        then=auditor_heals,
    ),
    Fault(
        "connect in copy",
        "Connect killed while it streams one transaction of 100,000 rows, written by COPY",
        during_copy,
        patience=180.0,
        tidy=copied_away,
    ),
    Fault(
        "connect in snapshot",
        "Connect killed in the middle of the snapshot of 100,000 rows",
        partial(healed_by_auditor, run=during_snapshot),
        healed_by=AUDITOR,
        snapshot=True,
        patience=180.0,
        tidy=bulk_away,
    ),
    Fault(
        "connect in transactions",
        "Connect killed in the middle of six interleaved long transactions",
        during_transactions,
    ),
    Fault(
        "wrong password",
        "Connect's role has another password for a while",
        wrong_password,
        healed_by="the guardian",
        short=True,
    ),
    Fault(
        "walsender ended",
        "Postgres ends the replication connection five times",
        terminate_walsender,
    ),
    *_NETWORK,
    *_BESIDE,
    Fault(
        "corrupt messages",
        "five kinds of nonsense on every partition",
        corrupt,
        dead_letters=True,
        short=True,
    ),
    Fault(
        "oversized messages", "1 MB of nonsense on every partition", oversized, dead_letters=True
    ),
    Fault("old messages", "thousands of old changes arrive a second time", stale, short=True),
    Fault("ddl", "columns added, widened, narrowed and dropped under load", ddl),
    Fault("primary keys", "27 rows get another SKU, and their own again", primary_keys, short=True),
    Fault(
        "clock ahead",
        "the availability worker's clock is an hour ahead",
        partial(wrong_clock, agent="availability", hours=1),
    ),
    Fault(
        "clock behind",
        "the availability worker's clock is an hour behind",
        partial(wrong_clock, agent="availability", hours=-1),
    ),
    Fault(
        "disk full",
        "the broker's file system is full",
        full,
        healed_by="a person: room on the disk, then `make up`",
        needs=no_mount,
        patience=120.0,
    ),
    Fault(
        "redis flushed",
        "FLUSHALL",
        flush_all,
        short=True,
        clocks_restart=True,
        patience=_REPLAY_SECONDS,
    ),
    Fault(
        "redis empty",
        "restart without persistence",
        restart_empty,
        clocks_restart=True,
        patience=_REPLAY_SECONDS,
    ),
    Fault(
        "redis behind",
        "Redis comes back as it was seconds ago",
        restart_behind,
        clocks_restart=True,
        patience=_REPLAY_SECONDS,
    ),
    Fault(
        "key deleted",
        "two keys are deleted",
        partial(healed_by_auditor, run=delete_key),
        healed_by=AUDITOR,
    ),
    Fault(
        "ghost added",
        "a SKU that Postgres does not know",
        partial(healed_by_auditor, run=add_ghost),
        healed_by=AUDITOR,
    ),
    Fault(
        "failover with slot",
        "failover to a second Postgres, which has the slot synchronised",
        partial(failover, synced=True),
        patience=120.0,
    ),
    Fault(
        "failover without slot",
        "failover to a second Postgres, which has no slot",
        partial(failover, synced=False),
        healed_by=RECOVER,
        snapshot=True,
        patience=180.0,
    ),
    Fault(
        "slot dropped",
        "the replication slot is dropped",
        slot_dropped,
        healed_by=RECOVER,
        snapshot=True,
        patience=180.0,
    ),
    Fault(
        "wal removed",
        "`max_slot_wal_keep_size` hit while Connect is away",
        wal_removed,
        healed_by=RECOVER,
        snapshot=True,
        patience=180.0,
    ),
)
