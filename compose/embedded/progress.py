"""How the download of the jars is shown: a bar on a terminal, plain lines elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from compose.embedded import jars

_PLAIN_EVERY = 10


@contextmanager
def shown(console: Console | None) -> Iterator[jars.Progress]:
    """A callback for `jars.install`; without a console it shows nothing."""
    if console is None:
        yield lambda _done, _total, _name: None
    elif console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        # Shown from the first jar on: an installed set costs no line.
        with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as bar:
            task = bar.add_task("downloading jars", total=None, visible=False)

            def advance(done: int, total: int, name: str) -> None:
                bar.update(
                    task, completed=done, total=total, visible=True, description=f"jar {name}"
                )

            yield advance
    else:

        def line(done: int, total: int, name: str) -> None:
            if done == total or done % _PLAIN_EVERY == 0:
                console.print(f"downloaded jar {done} of {total}: {name}", highlight=False)

        yield line
