"""`stockwire simulate`: one rush of buyers, strategy by strategy, side by side."""

from pathlib import Path
from typing import Annotated

import orjson
import typer
import uvloop
from rich.console import Console

from cli.bringup import Progress
from cli.quiet import quietly
from inventory.settings import load_settings
from reservations.pool import POOL_SIZE
from simulate.buyers import Rush
from simulate.plot import plot
from simulate.report import Result, as_dict, markdown, text
from simulate.run import WAYS, Way, compare

#: Exit code when a strategy that must not oversell has.
_OVERSOLD = 3


def simulate(
    buyers: Annotated[int, typer.Option(min=1, help="How many come.")] = 500,
    units: Annotated[int, typer.Option(min=1, help="How many units there are.")] = 10,
    strategy: Annotated[
        list[Way] | None, typer.Option(help="Only this; may be repeated. All when left out.")
    ] = None,
    within: Annotated[
        float, typer.Option(min=0, help="Seconds within which they come; 0: all at once.")
    ] = 0.5,
    pool_size: Annotated[int, typer.Option(min=1, help="Connections to Postgres.")] = POOL_SIZE,
    seed: Annotated[int, typer.Option(help="The same seed gives the same arrivals.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="A table for docs.")] = False,
    plot_file: Annotated[
        Path | None, typer.Option("--plot", help="Write a picture as well, e.g. rush.svg.")
    ] = None,
) -> None:
    """Let a rush of buyers in, each wanting one unit of one SKU, once for each strategy.

    Each strategy sells a SKU of its own, which is removed again. `naive` reads and then writes: it
    is there only to show how that oversells. Fairness is the probability that of a buyer who was
    granted and one who was refused, the granted one came first: 1 is first come, first served, 0.5
    a lottery. Needs Postgres, and `redis` needs Redis: start them with `stockwire up`.

    Exit code 3 if any but `naive` has promised a unit that was not there.

    Example: `stockwire simulate --buyers 2000 --units 100 --plot rush.svg`
    """
    settings = load_settings()
    rush = Rush(buyers, units, within, seed)
    console = Console(stderr=as_json or as_markdown, highlight=False)
    with Progress(console) as say, quietly():
        results = uvloop.run(
            compare(
                settings.conninfo(),
                str(settings.redis_url),
                rush,
                list(dict.fromkeys(strategy)) if strategy else list(WAYS),
                pool_size=pool_size,
                say=say,
            )
        )
    if plot_file is not None:
        plot_file.write_text(plot(rush, results))
    if as_json:
        print(orjson.dumps(as_dict(rush, pool_size, results)).decode())
    elif as_markdown:
        print(markdown(results))
    else:
        print(text(results))
        print(verdict(results))
    if oversold(results):
        raise typer.Exit(_OVERSOLD)


def oversold(results: list[Result]) -> list[Result]:
    """Those that have oversold and must not."""
    return [result for result in results if result.oversold and result.strategy != Way.NAIVE]


def verdict(results: list[Result]) -> str:
    """What it comes to, in one sentence."""
    wrong = oversold(results)
    if wrong:
        names = ", ".join(f"{result.strategy} ({result.oversold:,})" for result in wrong)
        return f"OVERSOLD: {names}."
    naive = [result for result in results if result.strategy == Way.NAIVE]
    if len(naive) == len(results):
        return f"Nothing but naive was tried; it oversold {naive[0].oversold:,} units."
    told = f" Naive oversold {naive[0].oversold:,}." if naive else ""
    return f"No strategy sold a unit that was not there.{told}"
