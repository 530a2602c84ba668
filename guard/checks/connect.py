"""Whether the connector captures."""

from connectors.apply import CONNECTOR
from guard.facts import Facts, Unread
from guard.finding import Finding, critical, ok, warning


def answers(facts: Facts) -> list[Finding]:
    """Kafka Connect can be asked, and has Debezium."""
    connect = facts.connect
    if isinstance(connect, Unread):
        return [
            critical(
                "connect",
                connect.why,
                "changes wait in the WAL, which grows meanwhile",
                "stockwire status, stockwire logs connect; then make up",
            )
        ]
    if not connect.has_plugin:
        return [
            critical(
                "connect",
                f"it does not have {facts.config.get('connector.class')}",
                "the connector cannot run there",
                "make setup, then make down up",
            )
        ]
    return [ok("connect", "answers")]


def state(facts: Facts) -> list[Finding]:
    """The connector runs, and its task, which may have failed while the connector runs."""
    connect = facts.connect
    if isinstance(connect, Unread):
        return []
    status = connect.status
    if status is None:
        return [
            critical(
                "connector",
                f"{CONNECTOR} is not known to Connect",
                "no change is captured",
                "make up applies it",
            )
        ]
    if status.running:
        return [ok("connector", "it and its task run")]
    if status.failure is not None:
        return [
            critical(
                "connector",
                f"{status.failure}",
                "no change is captured until the cause is gone",
                _mend_failure(status.failure),
            )
        ]
    tasks = ", ".join(f"task {task.id} {task.state}" for task in status.tasks) or "no task"
    waiting = status.state in {"PAUSED", "STOPPED"}
    return [
        critical(
            "connector",
            f"it is {status.state}, {tasks}",
            "changes wait in the WAL, which grows meanwhile",
            "make up resumes it, unless another finding here says why it was stopped"
            if waiting
            else "wait a moment; then stockwire logs connect",
        )
    ]


def configuration(facts: Facts) -> list[Finding]:
    """The connector has the configuration of its file."""
    connect = facts.connect
    if isinstance(connect, Unread) or connect.config is None:
        return []
    wanted = {**facts.config, "name": CONNECTOR}
    different = sorted(
        key
        for key in wanted.keys() | connect.config.keys()
        if wanted.get(key) != connect.config.get(key)
    )
    if not different:
        return [ok("connector", "its configuration is that of the file")]
    return [
        warning(
            "connector",
            f"its configuration differs from the file in {', '.join(different)}",
            "somebody changed it by hand, or the file is newer",
            "make up applies the file",
        )
    ]


#: Texts by which a failed task says that the slot cannot go on from the stored offset.
GAPS = ("no longer available on the server", "invalidated", "can no longer get changes")


def _mend_failure(failure: str) -> str:
    if any(text in failure for text in GAPS):
        return "stockwire recover slot"
    if "password authentication" in failure or "FATAL: role" in failure:
        return (
            "give Connect the right DEBEZIUM_POSTGRES_* and start it again; the rest goes by itself"
        )
    return "stockwire logs connect says the cause; after that the guardian or make up restarts it"
