"""`stockwire projection`: the projection in Redis, built anew."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from inventory.settings import load_settings
from rebuild.crew import From, Pace
from rebuild.options import Options, Result, Stage
from rebuild.run import Rebuild

app = typer.Typer(
    help="The projection in Redis.", no_args_is_help=True, pretty_exceptions_enable=False
)

#: Seconds between two lines where there is no terminal.
_LINE = 5.0


@app.callback()
def projection() -> None:
    """The projection in Redis, that storefronts read."""


@app.command()
def rebuild(
    source: Annotated[From, typer.Option("--from", help="Where the rows come from.")] = From.KAFKA,
    shadow: Annotated[
        bool,
        typer.Option("--shadow", help="Fill a second key space, audit it, then switch readers."),
    ] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin anew instead of going on.")
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the old key space after --shadow has switched.")
    ] = False,
    processes: Annotated[
        int, typer.Option(min=1, max=16, help="How many processes read and write.")
    ] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="The result as one JSON object.")] = False,
) -> None:
    """Build the projection in Redis anew, while changes flow.

    In place, what is right stays as it is, and only what is wrong or missing is written. What no
    source has any row of (ghosts) is left to `stockwire audit`; --shadow does not take it over.

    Ctrl-C stops it; the same command goes on.
    """
    console = Console(stderr=True, highlight=False)
    options = Options(source, shadow, restart, keep, processes)
    try:
        with _shown(console) as (say, show):
            result = Rebuild(load_settings(), options, say, show).run()
    except KeyboardInterrupt:
        console.print("Stopped. The same command goes on; --restart begins anew.")
        raise typer.Exit(130) from None
    if as_json:
        print(orjson.dumps(as_dict(result)).decode())
    else:
        for line in lines(result):
            print(line)


def as_dict(result: Result) -> dict[str, object]:
    """The result as JSON shows it."""
    return {
        "source": result.source.value,
        "shadow": result.shadow,
        "resumed": result.resumed,
        "switched": result.switched,
        **result.counts._asdict(),
        "wrong": result.wrong,
        "told": result.told,
        "seconds": {stage: round(taken, 3) for stage, taken in result.seconds.items()},
    }


def lines(result: Result) -> Iterator[str]:
    """The result as people read it."""
    counts = result.counts
    seconds = sum(result.seconds.values())
    yield f"{counts.records:,} records read in {seconds:.1f} s ({_stages(result)})"
    if result.shadow:
        yield f"readers were switched to the new key space; wrong before: {result.wrong:,} SKUs"
    else:
        yield f"mended: {counts.mended:,} SKUs, and the readers' hash of {counts.readers:,} more"
    if counts.rejected:
        yield f"dead-lettered by rule, not taken: {counts.rejected:,} records"
    if result.told:
        yield f"being told of every SKU: {', '.join(result.told)} (see `stockwire channels`)"
    if counts.unplaced:
        yield (
            f"{counts.unplaced:,} SKUs were missing whose partition Postgres does not know: "
            "a channel's policy edit passes them over until they change, or until a rebuild "
            "from kafka"
        )
    if not result.shadow:
        yield "SKUs that the source has no row of were left alone: `stockwire audit` finds them"


def _stages(result: Result) -> str:
    return ", ".join(f"{stage} {taken:.1f} s" for stage, taken in result.seconds.items())


_Say = Callable[[str], None]
_Show = Callable[[Stage], None]


@contextmanager
def _shown(console: Console) -> Iterator[tuple[_Say, _Show]]:
    """What tells people of the steps: a bar on a terminal, a line now and then elsewhere."""
    pace = Paces()
    if console.is_terminal:
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[text]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
        ) as bars:
            tasks: dict[str, TaskID] = {}

            def show(stage: Stage) -> None:
                if stage.name not in tasks:
                    tasks[stage.name] = bars.add_task(stage.name, text="")
                bars.update(
                    tasks[stage.name],
                    completed=stage.done,
                    total=stage.whole,
                    text=pace.text(stage),
                )

            yield bars.console.print, show
        return
    spoke = time.monotonic()

    def line(stage: Stage) -> None:
        nonlocal spoke
        text = pace.text(stage)
        if time.monotonic() - spoke >= _LINE:
            spoke = time.monotonic()
            print(f"{stage.name}: {text}", file=sys.stderr)

    yield lambda text: print(text, file=sys.stderr), line


class Paces:
    """How fast each stage goes."""

    def __init__(self) -> None:
        self._paces: dict[str, Pace] = {}

    def text(self, stage: Stage) -> str:
        """How far a stage is and how fast it goes."""
        pace = self._paces.setdefault(stage.name, Pace(stage.done))
        if not stage.done:
            return ""
        of = "" if stage.whole is None else f" of {stage.whole:,}"
        text = f"{stage.done:,}{of}, {pace.rate(stage.done):,.0f}/s"
        if stage.whole is not None and (left := pace.left(stage.done, stage.whole)) is not None:
            text += f", {left:.0f} s left"
        return text
