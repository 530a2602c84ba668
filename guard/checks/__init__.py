"""Pure functions: what is known → what is wrong, why it matters, and what mends it."""

from collections.abc import Callable
from dataclasses import replace
from types import MappingProxyType

from guard.checks import connect, database, kafka, processes, redis_server, slot, versions
from guard.facts import Facts
from guard.finding import Finding

Check = Callable[[Facts], list[Finding]]

#: In the order of the flow.
CHECKS: MappingProxyType[str, Check] = MappingProxyType(
    {
        "database answers": database.answers,
        "wal_level": database.wal_level,
        "free slots": database.free_slots,
        "publication": database.publication,
        "replica identity": database.replica_identity,
        "rights": database.rights,
        "limit of the slot": slot.limit,
        "slot": slot.state,
        "slot is read": slot.is_read,
        "disk": slot.disk,
        "restored": versions.restored,
        "line stopped": versions.line_stopped,
        "Connect answers": connect.answers,
        "connector": connect.state,
        "configuration": connect.configuration,
        "Kafka answers": kafka.answers,
        "topics": kafka.topics,
        "groups": kafka.groups,
        "Redis answers": redis_server.answers,
        "Redis policy": redis_server.policy,
        "Redis memory": redis_server.memory,
        "Redis persistence": redis_server.persistence,
        "Redis role": redis_server.role,
        "clocks": processes.clocks,
        "processes": processes.health,
    }
)


def examine(facts: Facts) -> list[Finding]:
    """Everything that the checks find, in the order of the flow, each with its check's name."""
    return [
        replace(finding, check=name) for name, check in CHECKS.items() for finding in check(facts)
    ]
