"""Whether the database is as capture needs it."""

from guard.facts import Facts, Unread
from guard.finding import Finding, critical, ok, warning
from guard.names import CDC_ROLE, PUBLICATION, PUBLISHED, WHOLE_ROWS


def answers(facts: Facts) -> list[Finding]:
    """Postgres can be read."""
    database = facts.postgres
    if isinstance(database, Unread):
        return [
            critical(
                "postgres",
                f"cannot be read: {database.why}",
                "nothing can be sold, and nothing be captured",
                "make status, stockwire logs postgres; then make up",
            )
        ]
    return [ok("postgres", f"answers, version {database.version // 10000}")]


def wal_level(facts: Facts) -> list[Finding]:
    """Changes can be decoded from the WAL."""
    database = facts.postgres
    if isinstance(database, Unread):
        return []
    if database.wal_level == "logical":
        return [ok("postgres", "wal_level is logical")]
    return [
        critical(
            "postgres",
            f"wal_level is {database.wal_level}",
            "the WAL does not hold what changed, so no change is captured",
            "ALTER SYSTEM SET wal_level = logical; restart Postgres, then stockwire recover slot",
        )
    ]


def free_slots(facts: Facts) -> list[Finding]:
    """A slot can be made when one is needed."""
    database = facts.postgres
    if isinstance(database, Unread) or database.slot is not None:
        return []
    if database.slots < database.max_slots:
        return []
    return [
        critical(
            "postgres",
            f"all {database.max_slots} replication slots are taken, and ours is not among them",
            "Debezium cannot make its slot",
            "drop one that nobody reads (SELECT * FROM pg_replication_slots), or raise "
            "max_replication_slots and restart Postgres",
        )
    ]


def publication(facts: Facts) -> list[Finding]:
    """Every captured table is published."""
    database = facts.postgres
    if isinstance(database, Unread):
        return []
    missing = sorted(PUBLISHED - database.published)
    if not missing:
        return [ok("publication", f"{PUBLICATION} has all {len(PUBLISHED)} tables")]
    return [
        critical(
            "publication",
            f"{PUBLICATION} lacks {', '.join(missing)}",
            "their changes are not captured, and what is committed meanwhile is missing for good",
            f"ALTER PUBLICATION {PUBLICATION} ADD TABLE {', '.join(missing)}; then "
            "stockwire recover slot",
        )
    ]


def replica_identity(facts: Facts) -> list[Finding]:
    """Change events carry the row as it was."""
    database = facts.postgres
    if isinstance(database, Unread):
        return []
    wrong = sorted(t for t in WHOLE_ROWS if database.identities.get(t) != "f")
    if not wrong:
        return [ok("publication", "replica identity is FULL where it must be")]
    return [
        critical(
            "publication",
            f"replica identity of {table} is not FULL",
            "a change does not say what was before: deletes go to the dead-letter topic, ledgers "
            "miss movements",
            f"ALTER TABLE {table} REPLICA IDENTITY FULL; then stockwire audit --once --heal",
        )
        for table in wrong
    ]


def rights(facts: Facts) -> list[Finding]:
    """Debezium's role may do what it must."""
    database = facts.postgres
    if isinstance(database, Unread):
        return []
    if not database.missing_rights:
        return [ok("postgres", "Debezium's role has its rights")]
    return [
        warning(
            "postgres",
            f"Debezium's role lacks {', '.join(database.missing_rights)}",
            "its next start or snapshot will fail",
            "; ".join(_grant(missing) for missing in database.missing_rights),
        )
    ]


def _grant(missing: str) -> str:
    """The statement that gives a right, which is named as `doctor_rights` does."""
    privilege, _, table = missing.partition(" on ")
    if table:
        return f"GRANT {privilege} ON {table} TO {CDC_ROLE}"
    if privilege == "REPLICATION":
        return f"ALTER ROLE {CDC_ROLE} REPLICATION"
    return f"make the role {CDC_ROLE} as sql/migrations/0004_capture.sql does"
