"""How an explanation looks to people."""

from collections.abc import Mapping
from datetime import UTC, datetime

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from audit.agreement import Agreement, Says
from audit.explanation import Answer, Explanation, LastChange, RowsExplanation
from audit.facts import CommittedRow
from inventory.policy import SHARE_UNITS, ChannelOverride, ChannelPolicy

_STYLES = {
    Agreement.AGREES: "green",
    Agreement.IN_FLIGHT: "yellow",
    Agreement.UNKNOWN: "red",
    Agreement.DIFFERS: "red",
}

_NUMBERS = frozenset(
    ["on hand", "reserved", "safety", "free", "available", "order limit", "units", "left"]
)

#: Columns that may take several lines.
_WORDY = frozenset(["why", "by", "says", "ring-fenced"])

#: Fields of a policy and of an override that say nothing by themselves.
_PLAIN = ("name", "kind", "topic", "version", "committed_us", "deleted")


def print_explanation(found: Explanation, console: Console) -> None:
    """The waterfall, what decided the status, the last change, and who agrees."""
    account = found.account
    console.print(_headline(found), style="bold")
    console.print(_warehouses(found))
    if account.elsewhere:
        console.print(f"not sold from here: {', '.join(account.elsewhere)}\n")
    if account.steps:
        console.print(_waterfall(found))
    if account.promised is not None and account.answer is Answer.SOLD:
        promised = account.promised
        restock = promised.restock_at
        console.print(
            f"backorderable {promised.backorderable:,}   order limit {promised.order_limit:,}"
            + (f"   restock {time_text(restock * 1000)}" if restock is not None else "")
        )
    console.print(f"status        {_status(found)}: {account.why_status}")
    console.print(f"policy        {policy_text(account.policy)}")
    if account.override is not None:
        console.print(f"override      {override_text(account.override)}")
    _print_last_change(account.last_change, account.facts.now_us, console)
    console.print(_agreement({"Redis": found.redis, f"{account.policy.topic}": found.topic}))


def print_rows(found: RowsExplanation, console: Console) -> None:
    """The rows that a channel is told of, and what it was told last of each."""
    policy = found.policy
    console.print(
        f"{found.facts.sku} on {policy.name}: a channel of kind {policy.kind}, told of every row",
        style="bold",
    )
    if not found.rows:
        console.print("The SKU has no row in any of the channel's warehouses.\n")
    else:
        rows = _table("warehouse", "on hand", "reserved", "safety", "version", "changed", "why")
        for each in found.rows:
            rows.add_row(*_row_cells(each.warehouse, each.row))
        console.print(rows)
    if found.elsewhere:
        console.print(f"not told of: {', '.join(found.elsewhere)}\n")
    console.print(f"policy        {policy_text(policy)}")
    _print_last_change(found.last_change, found.facts.now_us, console)
    if found.rows:
        console.print(_agreement({f"{row.warehouse}": row.told for row in found.rows}))


def print_overview(found: list[Explanation], console: Console) -> None:
    """A line for each channel."""
    table = _table("channel", "available", "status", "order limit", "Redis", "topic")
    for each in found:
        promised = each.account.promised
        table.add_row(
            each.account.policy.name,
            "-" if promised is None else f"{promised.available:,}",
            _status(each),
            "-" if promised is None else f"{promised.order_limit:,}",
            _judged(each.redis.agreement),
            _judged(each.topic.agreement),
        )
    console.print(table)


def policy_text(policy: ChannelPolicy) -> str:
    """A policy in one line, without what is at its default."""
    default = ChannelPolicy(policy.name, policy.kind, policy.topic)
    values = [
        f"{name} {_value(name, getattr(policy, name))}"
        for name in ChannelPolicy.__dataclass_fields__
        if name not in _PLAIN
        and (getattr(policy, name) != getattr(default, name) or name in ("buffer", "share"))
    ]
    return f"{', '.join(values)} (version {policy.version}, {time_text(policy.committed_us)})"


def override_text(override: ChannelOverride) -> str:
    """An override in one line, without what it leaves to the policy."""
    values = [
        f"{name} {_value(name, value)}"
        for name, value in override._asdict().items()
        if name not in _PLAIN and value is not None and value is not False and value != 0
    ]
    given = ", ".join(values) or "nothing of its own"
    return f"{given} (version {override.version}, {time_text(override.committed_us)})"


def advice(agreement: Agreement) -> str | None:
    """What to do when places differ, in one sentence."""
    if agreement is Agreement.DIFFERS:
        return (
            "They differ: see with `stockwire status` and `stockwire channels` whether the worker "
            "runs and the channel is behind, then compare everything with `stockwire audit --once`."
        )
    if agreement is Agreement.UNKNOWN:
        return "A place cannot be read: see `stockwire status`, and start what is down: make up."
    return None


def _headline(found: Explanation) -> str:
    account = found.account
    place = f"{account.facts.sku} on {account.policy.name}"
    match account.answer:
        case Answer.NOT_LISTED:
            return f"{place}: not listed"
        case Answer.CHANNEL_BLOCKED:
            return f"{place}: 0 available, the channel is blocked"
        case Answer.SKU_BLOCKED:
            return f"{place}: 0 available, the SKU is blocked on this channel"
        case Answer.SOLD:
            assert account.promised is not None
            return f"{place}: {account.promised.available:,} available"


def _status(found: Explanation) -> str:
    promised = found.account.promised
    return "not listed" if promised is None else promised.status.value


def _warehouses(found: Explanation) -> Table:
    fenced = any(line.held for line in found.account.warehouses)
    columns = ["warehouse", "on hand", "reserved", "safety", "free"]
    columns += ["ring-fenced"] if fenced else []
    table = _table(*columns, "version", "changed", "why")
    for line in found.account.warehouses:
        cells = _row_cells(line.warehouse, line.row)
        free = "-" if line.row is None else f"{line.row.row.free:,}"
        held = ", ".join(f"{name} {units:,}" for name, units in line.held.items())
        table.add_row(*cells[:4], free, *([held] if fenced else []), *cells[4:])
    return table


def _row_cells(warehouse: str, row: CommittedRow | None) -> list[str]:
    if row is None:
        return [warehouse, "-", "-", "-", "-", "", "no row"]
    values = row.row
    why = " ".join(filter(None, (values.reason, values.reference)))
    by = f" by {values.caused_by}" if values.caused_by else ""
    return [
        warehouse,
        f"{values.on_hand:,}",
        f"{values.reserved:,}",
        f"{values.safety_stock:,}",
        str(values.version),
        time_text(row.updated_us),
        why + by,
    ]


def _waterfall(found: Explanation) -> Table:
    steps = found.account.steps
    table = _table("step", "units", "left", "by")
    for step in steps:
        units = "" if step is steps[0] else f"{step.delta:+,}"
        table.add_row(step.name, units, f"{step.left:,}", step.source)
    table.add_row("available", "", f"{steps[-1].left:,}", "", style="bold")
    return table


def _print_last_change(last: LastChange | None, now_us: int, console: Console) -> None:
    if last is None:
        console.print("last change   not known any more")
        return
    why = " ".join(filter(None, (last.reason, last.reference)))
    by = f" by {last.caused_by}" if last.caused_by else ""
    ago = max(0.0, (now_us - last.at_us) / 1e6)
    console.print(
        f"last change   {last.what}, version {last.version}, {time_text(last.at_us)} "
        f"({seconds_text(ago)} ago){': ' if why or by else ''}{why}{by}"
    )


def _agreement(places: Mapping[str, Says]) -> Table:
    table = _table("place", "agrees?", "says", "version", "as of", "partition", "offset")
    for place, says in places.items():
        table.add_row(
            place,
            _judged(says.agreement),
            _said(says),
            str(says.version or ""),
            "" if says.as_of_us is None else time_text(says.as_of_us),
            "" if says.partition is None else str(says.partition),
            "" if says.offset is None else str(says.offset),
        )
    return table


def _said(says: Says) -> str:
    if says.mismatches:
        return "; ".join(
            f"{field} {_value(field, found)} instead of {_value(field, expected)}"
            for field, expected, found in says.mismatches
        )
    if says.reason is not None:
        return says.reason
    if says.fields is None:
        return "not listed"
    if "status" in says.fields:
        return f"{says.fields['available']:,} {says.fields['status']}"
    return f"on hand {says.fields['on_hand']:,}, reserved {says.fields['reserved']:,}"


def _judged(agreement: Agreement) -> Text:
    return Text(agreement.value, style=_STYLES[agreement])


def _value(name: str, value: object) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return "yes" if value else "no"
        case int() if name == "share":
            return percent(value)
        case tuple():
            return ", ".join(map(str, value))
        case _:
            return str(value)


def _table(*columns: str) -> Table:
    """A table whose numbers stand right."""
    table = Table(box=SIMPLE, pad_edge=False)
    for column in columns:
        right = column in _NUMBERS
        table.add_column(column, justify="right" if right else "left", no_wrap=column not in _WORDY)
    return table


def time_text(microseconds: int) -> str:
    """A time of today, or a date and time; both local."""
    moment = datetime.fromtimestamp(microseconds / 1e6, UTC).astimezone()
    if moment.date() == datetime.now(UTC).astimezone().date():
        return f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03d}"
    return f"{moment:%d %b %Y %H:%M:%S}"


def percent(share: int) -> str:
    """A share in ten-thousandths, e.g. `80%` or `33.33%`."""
    return f"{share * 100 / SHARE_UNITS:g}%"


def seconds_text(seconds: float) -> str:
    """A time span in its largest unit."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h"
