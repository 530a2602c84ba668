"""What is known of each part, as the checks take it; `Unread` where a part does not answer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from connectors.client import ConnectorStatus
from inventory.topics import TopicSpec
from projections.checkpoint import CheckpointState

#: A topic, and the number of one of its partitions.
Place = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Unread:
    """A part that could not be read, and why, in one line."""

    why: str


@dataclass(frozen=True, slots=True)
class LineStop:
    """The note that capture must stand still."""

    reason: str
    since: datetime


@dataclass(frozen=True, slots=True)
class SlotFacts:
    """The replication slot; positions are bytes of the WAL.

    Attributes:
        wal_status: `reserved`, `extended`, `unreserved` or `lost`.
        retained: bytes of WAL that are kept for it; None when it is lost.
        safe: bytes that may be written until it may be lost; None when nothing limits it.
        inactive_seconds: since it was last read; None while it is, and before Postgres 17.
    """

    active: bool
    wal_status: str
    restart: int | None
    confirmed: int | None
    retained: int | None
    safe: int | None
    inactive_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class PostgresFacts:
    """The database.

    Attributes:
        version: as `server_version_num`.
        slot_keep_mb: `max_slot_wal_keep_size` in MB; -1 is without limit.
        slot: None when there is none.
        wal_position: bytes of the WAL, now.
        wal_rate: bytes a second; None when it was looked at once.
        retained_rate: bytes a second by which `slot.retained` grows, below 0 when it shrinks; None
            when it was looked at once, or the slot was not there each time.
        disk_free: bytes, where the data is; None when it is elsewhere.
        skew: seconds that its clock is ahead of this machine's.
        stock_version: the last version drawn; 0 before the first, None when it cannot be read.
        missing_rights: what Debezium's role needs and has not.
    """

    version: int
    wal_level: str
    max_slots: int
    slots: int
    slot_keep_mb: int
    published: frozenset[str]
    identities: Mapping[str, str]
    slot: SlotFacts | None
    wal_position: int
    wal_rate: float | None
    retained_rate: float | None
    disk_free: int | None
    skew: float
    stock_version: int | None
    missing_rights: tuple[str, ...]
    stopped: LineStop | None = None


@dataclass(frozen=True, slots=True)
class ConnectFacts:
    """The connector; `offset` is the WAL position that Connect has stored for it."""

    config: Mapping[str, str] | None
    status: ConnectorStatus | None
    offset: int | None
    has_plugin: bool


@dataclass(frozen=True, slots=True)
class TopicFacts:
    """A topic as it is."""

    partitions: int
    replication: int
    config: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class GroupFacts:
    """A consumer group.

    Attributes:
        lag: records that are not confirmed, over all partitions.
        stuck: partitions with lag of which nothing was confirmed between two looks, and their lag.
    """

    members: int
    lag: int
    stuck: Mapping[Place, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class KafkaFacts:
    """Topics and groups by name; one that is not there is missing."""

    topics: Mapping[str, TopicFacts]
    groups: Mapping[str, GroupFacts]


@dataclass(frozen=True, slots=True)
class RedisFacts:
    """Redis; `maxmemory` 0 is without limit, `replica_lag` in bytes of the slowest replica."""

    version: tuple[int, ...]
    policy: str
    maxmemory: int
    used: int
    append_only: bool
    write_error: str | None
    role: str
    link_up: bool
    replica_lag: int | None
    skew: float
    checkpoint: CheckpointState


@dataclass(frozen=True, slots=True)
class ProcessFacts:
    """What a process says of itself."""

    live: bool
    ready: bool
    reasons: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that was looked at.

    Attributes:
        config: of the connector, as its file has it.
        topics: as they must be; those of the channels only when Postgres can say which there are.
        partitions: that topics without a number of their own must have.
        processes: by name.
    """

    postgres: PostgresFacts | Unread
    connect: ConnectFacts | Unread
    kafka: KafkaFacts | Unread
    redis: RedisFacts | Unread
    processes: Mapping[str, ProcessFacts | Unread]
    config: Mapping[str, str]
    topics: tuple[TopicSpec, ...]
    partitions: int
