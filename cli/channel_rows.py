"""The rows of `inventory.channel`, as the commands read and write them."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psycopg

from audit.postgres import reading
from inventory.errors import NotFound, Outage, PolicyError
from inventory.policy import AS_OF, ChannelKind, ChannelPolicy
from inventory.topics import ALERT_TOPIC, CAPTURE_TOPICS, DEAD_LETTER_TOPIC
from sql.queries import load_queries

_QUERIES = load_queries()
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_TOPIC = re.compile(r"(?!stockwire|_)[A-Za-z0-9._-]{1,249}")
_OURS = frozenset(spec.name for spec in (*CAPTURE_TOPICS, ALERT_TOPIC, DEAD_LETTER_TOPIC))


def check_new_channel(
    wanted: ChannelPolicy, policies: Sequence[ChannelPolicy], warehouses: Sequence[str]
) -> bool:
    """Whether a channel is still to be made; False if it is there as it is wanted.

    Args:
        wanted: its name, kind, topic and warehouses.
        policies: of the channels that there are.
        warehouses: the codes of those that there are.

    Raises:
        PolicyError: it cannot be made so; the text says what would do.
    """
    name, topic = wanted.name, wanted.topic
    if not _NAME.fullmatch(name) or name == AS_OF:
        raise PolicyError(
            f"A channel cannot be named {name!r}: a name is 1 to 63 of a-z, 0-9, _ and -, begins "
            f"with a letter and is not {AS_OF!r}."
        )
    if not _TOPIC.fullmatch(topic) or topic in _OURS:
        raise PolicyError(
            f"{topic!r} cannot be a channel's topic: it is one of Stockwire's own, or not 1 to 249 "
            "of letters, digits, dot, _ and -; give another one with --topic."
        )
    codes = wanted.warehouses or ()
    unknown = [code for code in codes if code not in warehouses]
    if unknown:
        known = ", ".join(warehouses) or "none yet"
        raise PolicyError(
            f"There is no warehouse {', '.join(unknown)}; the warehouses are {known}."
        )
    if len(set(codes)) < len(codes):
        raise PolicyError(f"A warehouse is there twice in {','.join(codes)}: name each once.")
    for policy in policies:
        if policy.name == name:
            return _check_same(policy, wanted)
        if policy.topic == topic:
            raise PolicyError(
                f"The topic {topic} is that of the channel {policy.name}; give another one with "
                "--topic."
            )
    return True


def _check_same(found: ChannelPolicy, wanted: ChannelPolicy) -> bool:
    if (found.kind, found.topic) != (wanted.kind, wanted.topic):
        raise PolicyError(
            f"There is a channel {found.name} already, of kind {found.kind} on {found.topic}, and "
            "its subscribers depend on that: take another name, or remove it first with "
            f"`stockwire channel-remove {found.name}`."
        )
    if found.warehouses != wanted.warehouses:
        raise PolicyError(
            f"There is a channel {found.name} already, which sells from "
            f"{warehouses_text(found)}; to change that, set the column warehouses of its row in "
            f"inventory.channel to {_sql_list(wanted.warehouses)}."
        )
    return False


def warehouses_text(policy: ChannelPolicy) -> str:
    """The warehouses of a channel, first the one with the highest priority."""
    return "all warehouses" if policy.warehouses is None else ", ".join(policy.warehouses)


def _sql_list(codes: Sequence[str] | None) -> str:
    return "NULL" if codes is None else f"'{{{','.join(codes)}}}'"


def warehouse_codes(conninfo: str) -> list[str]:
    """All warehouses.

    Raises:
        Outage: Postgres does not answer.
        AuditError: it refuses.
    """
    with reading(conninfo) as connection:
        return [code for (code,) in connection.execute(_QUERIES["warehouse_codes"])]


def override_counts(conninfo: str) -> dict[str, int]:
    """How many SKUs have something of their own, by channel; raises as `warehouse_codes`."""
    with reading(conninfo) as connection:
        return dict(connection.execute(_QUERIES["override_counts"]).fetchall())


def find_channel(name: str, policies: Sequence[ChannelPolicy]) -> ChannelPolicy:
    """The channel of this name.

    Raises:
        NotFound: there is none.
    """
    for policy in policies:
        if policy.name == name:
            return policy
    known = ", ".join(policy.name for policy in policies) or "none yet"
    raise NotFound(f"There is no channel {name!r}; the channels are {known}.")


def add_channel(conninfo: str, wanted: ChannelPolicy) -> None:
    """Insert the row.

    Raises:
        PolicyError: Postgres refuses it, for example because it is there by now.
        Outage: Postgres does not answer.
    """
    with _writing(conninfo) as connection:
        connection.execute(
            _QUERIES["add_channel"],
            {
                "name": wanted.name,
                "kind": ChannelKind(wanted.kind).value,
                "topic": wanted.topic,
                "warehouses": None if wanted.warehouses is None else list(wanted.warehouses),
            },
        )


def remove_channel(conninfo: str, name: str) -> None:
    """Delete the row, and with it what SKUs have of their own there; raises as `add_channel`."""
    with _writing(conninfo) as connection:
        connection.execute(_QUERIES["remove_channel"], {"name": name})


@contextmanager
def _writing(conninfo: str) -> Iterator[psycopg.Connection]:
    try:
        with psycopg.connect(conninfo, connect_timeout=10) as connection:
            yield connection
    except psycopg.OperationalError as exc:
        raise Outage(f"Postgres cannot be reached ({_text(exc)}); start it with: make up.") from exc
    except psycopg.Error as exc:
        raise PolicyError(f"Postgres refuses this: {_text(exc)}.") from exc


def _text(exc: Exception) -> str:
    return " ".join(str(exc).split())
