"""`stockwire explain`: why is this number what it is?"""

import sys
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console

from audit.agreement import Agreement, Says
from audit.explain import Explainer
from audit.explanation import Explanation, LastChange, RowsExplanation, worst
from audit.facts import CommittedRow
from cli.explain_view import advice, print_explanation, print_overview, print_rows
from inventory.messages import timestamp
from inventory.policy import ChannelOverride, ChannelPolicy
from inventory.settings import load_settings

_ENDS_WELL = (Agreement.AGREES, Agreement.IN_FLIGHT)


def explain(
    sku: Annotated[str, typer.Argument(help="The SKU, e.g. SKU-00001.")],
    channel: Annotated[
        str | None, typer.Option(help="The channel, e.g. web; a line for each when left out.")
    ] = None,
    patience: Annotated[
        float, typer.Option(min=0, help="Seconds to look again while something differs.")
    ] = 1.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Explain a number: every step from the stock rows to what a channel may promise.

    Says as well what changed it last, and whether Postgres, Redis and the channel's topic agree
    right now. Exit code 0 when they do or a change is on its way, 1 when they differ.

    Policies are rows; edit them in SQL, and the numbers follow within a second:

        UPDATE inventory.channel SET buffer = 5, share = 0.8 WHERE name = 'web';

        INSERT INTO inventory.channel_sku (channel, sku, ring_fence) VALUES ('web', 'SKU-00001', 10)
        ON CONFLICT (channel, sku) DO UPDATE SET ring_fence = excluded.ring_fence;

    Example: `stockwire explain SKU-00001 --channel web`
    """
    settings = load_settings()
    console = Console(markup=False, highlight=False)
    with Explainer.open(
        settings.conninfo(), str(settings.redis_url), settings.kafka_bootstrap
    ) as explainer:
        if channel is None:
            overview = explainer.explain_all(sku, patience)
            agreement = worst(*(each.agreement for each in overview))
        else:
            found = explainer.explain(sku, channel, patience)
            agreement = found.agreement
    if channel is None:
        if as_json:
            print(orjson.dumps([explanation_dict(each) for each in overview]).decode())
        else:
            print_overview(overview, console)
            print(f"Explain one with: stockwire explain {sku} --channel web")
    elif isinstance(found, Explanation):
        if as_json:
            print(orjson.dumps(explanation_dict(found)).decode())
        else:
            print_explanation(found, console)
    elif as_json:
        print(orjson.dumps(rows_dict(found)).decode())
    else:
        print_rows(found, console)
    if agreement not in _ENDS_WELL:
        print(advice(agreement), file=sys.stderr)
        raise typer.Exit(1)


def explanation_dict(found: Explanation) -> dict[str, Any]:
    """An explanation as JSON shows it; times in ISO 8601."""
    account = found.account
    promised = account.promised
    return {
        "sku": account.facts.sku,
        "channel": account.policy.name,
        "answer": account.answer,
        "available": None if promised is None else promised.available,
        "status": None if promised is None else promised.status,
        "backorderable": None if promised is None else promised.backorderable,
        "order_limit": None if promised is None else promised.order_limit,
        "restock_at": None
        if promised is None or promised.restock_at is None
        else timestamp(promised.restock_at * 1000),
        "why_status": account.why_status,
        "warehouses": [
            {
                "warehouse": line.warehouse,
                "row": None if line.row is None else _row_dict(line.row),
                "ring_fenced": dict(line.held),
            }
            for line in account.warehouses
        ],
        "elsewhere": account.elsewhere,
        "steps": [step._asdict() for step in account.steps],
        "policy": _policy_dict(account.policy),
        "override": None if account.override is None else _override_dict(account.override),
        "last_change": _change_dict(account.last_change),
        "agreement": found.agreement,
        "redis": says_dict(found.redis),
        "topic": {"name": account.policy.topic, **says_dict(found.topic)},
    }


def rows_dict(found: RowsExplanation) -> dict[str, Any]:
    """An explanation of a channel of another kind, as JSON shows it."""
    return {
        "sku": found.facts.sku,
        "channel": found.policy.name,
        "kind": found.policy.kind,
        "rows": [
            {
                "warehouse": each.warehouse,
                "row": None if each.row is None else _row_dict(each.row),
                "topic": says_dict(each.told),
            }
            for each in found.rows
        ],
        "elsewhere": found.elsewhere,
        "policy": _policy_dict(found.policy),
        "last_change": _change_dict(found.last_change),
        "agreement": found.agreement,
    }


def says_dict(says: Says) -> dict[str, Any]:
    """What a place says, as JSON shows it."""
    return {
        "agreement": says.agreement,
        "says": says.fields,
        "version": says.version,
        "as_of": None if says.as_of_us is None else timestamp(says.as_of_us),
        "partition": says.partition,
        "offset": says.offset,
        "differs": [each._asdict() for each in says.mismatches],
        "reason": says.reason,
    }


def _row_dict(committed: CommittedRow) -> dict[str, Any]:
    fields = committed.row._asdict()
    at = fields.pop("incoming_at")
    return {
        **fields,
        "incoming_at": None if at is None else timestamp(at * 1000),
        "free": committed.row.free,
        "updated_at": timestamp(committed.updated_us),
    }


def _policy_dict(policy: ChannelPolicy) -> dict[str, Any]:
    fields = {name: getattr(policy, name) for name in ChannelPolicy.__dataclass_fields__}
    return {**fields, "updated_at": timestamp(fields.pop("committed_us"))}


def _override_dict(override: ChannelOverride) -> dict[str, Any]:
    fields = override._asdict()
    del fields["deleted"]
    return {**fields, "updated_at": timestamp(fields.pop("committed_us"))}


def _change_dict(last: LastChange | None) -> dict[str, Any] | None:
    if last is None:
        return None
    fields = last._asdict()
    return {**fields, "at": timestamp(fields.pop("at_us"))}
