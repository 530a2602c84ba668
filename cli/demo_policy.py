"""The policy edit of a demo: made while it sells, and taken back at its end."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from bench.policy_edits import PolicyEdit, PolicyEdits
from inventory.errors import StockwireError
from inventory.settings import Settings

CHANNEL = "web"

#: Units that the channel holds back in addition.
UNITS = 2


class EditMeanwhile:
    """An edit that is made while the caller does something else; `edit_meanwhile` starts one."""

    def __init__(self, future: Future[PolicyEdit | None]) -> None:
        """Show what becomes of this one."""
        self._future = future

    @property
    def done(self) -> PolicyEdit | None:
        """The edit once everybody knows of it.

        Raises:
            StockwireError: it has failed.
        """
        return self._future.result() if self._future.done() else None

    def result(self) -> PolicyEdit:
        """Wait for it; only inside the context.

        Raises:
            StockwireError: it has failed.
        """
        edit = self._future.result()
        assert edit is not None, "nobody leaves before the edit is due"
        return edit


@contextmanager
def edit_meanwhile(
    settings: Settings, watch: str, after: float, patience: float
) -> Iterator[EditMeanwhile]:
    """Raise the buffer of `CHANNEL` by `UNITS`; leaving the context sets it back and waits for it.

    Args:
        settings: where the servers are.
        watch: a SKU whose new number is waited for by itself.
        after: seconds from now to the edit.
        patience: seconds within which an edit must be known everywhere.

    Raises:
        StockwireError: the edit cannot be taken back; the text says how to do it by hand.
    """
    leaving = threading.Event()
    with (
        PolicyEdits.opened(settings, patience) as edits,
        ThreadPoolExecutor(1, thread_name_prefix="policy-edit") as pool,
    ):
        before = edits.buffer(CHANNEL)

        def edit() -> PolicyEdit | None:
            if leaving.wait(after):
                return None
            return edits.set_buffer(CHANNEL, before + UNITS, watch)

        future = pool.submit(edit)
        try:
            yield EditMeanwhile(future)
        finally:
            leaving.set()
            _take_back(edits, future, before)


def _take_back(edits: PolicyEdits, future: Future[PolicyEdit | None], buffer: int) -> None:
    # What became of the edit is known to who has asked; it may be committed even if it has failed.
    future.exception()
    if edits.buffer(CHANNEL) == buffer:
        return
    try:
        edits.set_buffer(CHANNEL, buffer)
    except StockwireError as exc:
        raise StockwireError(
            f"The buffer of {CHANNEL} may still be the demo's: {exc} It was {buffer} before; "
            "set it back in the table inventory.channel."
        ) from exc
