"""Whether the WAL is kept for the connector, is read, and does not fill the disk."""

from guard.facts import Facts, PostgresFacts, Unread
from guard.finding import Finding, critical, ok, warning
from guard.names import SLOT

#: Seconds that nobody reads the slot until that is said.
INACTIVE_SECONDS = 60.0

#: Of what the slot may retain, the part that is a warning, and the part that is an alarm.
RETAINED_WARNING, RETAINED_CRITICAL = 0.5, 0.8

#: Hours until the disk is full at the present rate.
DISK_WARNING, DISK_CRITICAL = 24.0, 2.0

#: Bytes free below which the rate does not matter any more.
FREE_WARNING, FREE_CRITICAL = 2**30, 2**28

#: Bytes that a slot may retain and count as read: what a burst or a long transaction leaves.
BEHIND = 2**28

_GAP = "changes since then are in no WAL that the connector can read; they are lost to the stream"
_FULL = "Postgres stops when it is full, and with it every sale"
_RECOVER = "stockwire recover slot"


def state(facts: Facts) -> list[Finding]:
    """The slot is there, and its WAL too."""
    database = facts.postgres
    if isinstance(database, Unread):
        return []
    slot = database.slot
    if slot is None:
        # Before the connector first ran there is none either; then nothing was captured yet.
        return [critical("slot", f"there is no replication slot {SLOT}", _GAP, _RECOVER)]
    if slot.wal_status == "lost":
        return [critical("slot", "its WAL is gone (wal_status lost)", _GAP, _RECOVER)]
    if slot.wal_status == "unreserved":
        return [
            critical(
                "slot",
                "its WAL may be removed at the next checkpoint (wal_status unreserved)",
                "then changes are lost to the stream",
                "let the connector read at once (stockwire status), or raise "
                "max_slot_wal_keep_size; if it is too late: " + _RECOVER,
            )
        ]
    used = share_used(slot.retained, slot.safe)
    retained = f"{size(slot.retained)} of WAL retained"
    if used is not None and used >= RETAINED_WARNING:
        make = critical if used >= RETAINED_CRITICAL else warning
        return [
            make(
                "slot",
                f"{retained}, {used:.0%} of what max_slot_wal_keep_size lets it keep",
                "at the limit the slot is lost, and with it the changes since",
                "let the connector read (stockwire status), or ALTER SYSTEM SET "
                "max_slot_wal_keep_size to more and SELECT pg_reload_conf()",
            )
        ]
    return [ok("slot", f"{slot.wal_status}, {retained}")]


def is_read(facts: Facts) -> list[Finding]:
    """Somebody reads the slot."""
    database = facts.postgres
    if isinstance(database, Unread) or database.slot is None:
        return []
    slot = database.slot
    if slot.wal_status == "lost":
        return []
    if slot.active:
        return [ok("slot", "is being read")]
    since = slot.inactive_seconds
    for_how_long = "now" if since is None else f"for {since:.0f} s"
    make = critical if since is not None and since > INACTIVE_SECONDS else warning
    return [
        make(
            "slot",
            f"nobody reads it {for_how_long}",
            "changes wait, and the WAL grows until the slot is lost or the disk full",
            "see the connector's finding; without one: make up",
        )
    ]


def limit(facts: Facts) -> list[Finding]:
    """A slot that nobody reads cannot fill the disk."""
    database = facts.postgres
    if isinstance(database, Unread):
        return []
    if database.slot_keep_mb >= 0:
        return [ok("slot", f"max_slot_wal_keep_size is {size(database.slot_keep_mb << 20)}")]
    return [
        warning(
            "slot",
            "max_slot_wal_keep_size is -1, without limit",
            "a slot that nobody reads fills the disk, and Postgres stops",
            "ALTER SYSTEM SET max_slot_wal_keep_size = '4GB'; SELECT pg_reload_conf()",
        )
    ]


def disk(facts: Facts) -> list[Finding]:
    """How long until the disk is full, at the rate at which WAL is written now."""
    database = facts.postgres
    if isinstance(database, Unread) or database.disk_free is None:
        return []
    hours = hours_until_full(facts)
    what = f"{size(database.disk_free)} free where Postgres's data is"
    if database.disk_free < FREE_WARNING:
        make = critical if database.disk_free < FREE_CRITICAL else warning
        return [
            make(
                "disk",
                what,
                _FULL,
                "make room there, or give it a larger disk; if it is WAL that fills it, see slot",
            )
        ]
    if hours is None:
        return [ok("disk", what)]
    what = f"{what}, full in {hours:.1f} hours at {size(round(growth(database)))}/s of WAL"
    if hours >= DISK_WARNING:
        return [ok("disk", what)]
    make = critical if hours < DISK_CRITICAL else warning
    return [
        make(
            "disk",
            what,
            _FULL,
            "let the connector read the slot; if it cannot be brought back in time: "
            f"as the owner SELECT pg_drop_replication_slot('{SLOT}'), later " + _RECOVER,
        )
    ]


def hours_until_full(facts: Facts) -> float | None:
    """Hours until WAL that is not read fast enough fills the disk; None when it never does."""
    database = facts.postgres
    if isinstance(database, Unread) or database.disk_free is None:
        return None
    slot = database.slot
    # The limit ends the slot before the disk ends.
    if slot is None or (slot.safe is not None and slot.safe < database.disk_free):
        return None
    rate = growth(database)
    return database.disk_free / rate / 3600 if rate > 0 else None


def growth(database: PostgresFacts) -> float:
    """Bytes a second by which WAL that must be kept for the slot grows; 0 when it does not."""
    slot = database.slot
    if slot is None:
        return 0.0
    if not slot.active:
        return database.wal_rate or 0.0
    if (slot.retained or 0) <= BEHIND:
        # What is read is recycled, in steps: between two of them it grows, and that means nothing.
        return 0.0
    return max(0.0, database.retained_rate or 0.0)


def share_used(retained: int | None, safe: int | None) -> float | None:
    """The part of the allowed WAL that is retained; None without a limit."""
    if retained is None or safe is None:
        return None
    if safe <= 0:
        return 1.0
    return retained / (retained + safe)


def size(amount: int | None) -> str:
    """Bytes for people."""
    if amount is None:
        return "none"
    value = float(amount)
    for unit in ("bytes", "kB", "MB"):
        if value < 1024:
            return f"{value:.0f} {unit}"
        value /= 1024
    return f"{value:.1f} GB"
