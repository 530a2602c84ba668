"""Histories of stock rows as Postgres would commit them, for hypothesis."""

from hypothesis import strategies as st

from inventory.stock import StockLevel

WAREHOUSES = ("ams", "lon", "nyc")

#: One committed change: which row, and what it became.
Change = tuple[str, StockLevel]


@st.composite
def histories(draw: st.DrawFn, max_size: int = 12) -> list[Change]:
    """Inserts, updates, deletes and re-inserts of one SKU's rows, in commit order.

    Versions are even and rise over all rows, a delete has its row's last version + 1, and several
    changes may share a commit time.
    """
    committed_us, version = 1_795_235_627_000_000, 0
    live: dict[str, int] = {}
    history: list[Change] = []
    for _ in range(draw(st.integers(1, max_size))):
        warehouse = draw(st.sampled_from(WAREHOUSES))
        committed_us += draw(st.sampled_from((0, 0, 1, 1500)))
        if warehouse in live and draw(st.integers(0, 3)) == 0:
            last = live.pop(warehouse)
            level = StockLevel(0, 0, 0, 0, None, last + 1, committed_us, deleted=True)
        else:
            version += 2
            live[warehouse] = version
            incoming = draw(st.sampled_from((0, 5)))
            level = StockLevel(
                draw(st.integers(0, 40)),
                draw(st.integers(0, 10)),
                draw(st.integers(0, 3)),
                incoming,
                draw(st.sampled_from((None, 1_795_300_000_000))) if incoming else None,
                version,
                committed_us,
            )
        history.append((warehouse, level))
    return history


@st.composite
def deliveries(draw: st.DrawFn, history: list[Change]) -> list[dict[str, StockLevel]]:
    """Every change at least once, some twice, in any order, in batches of any size.

    As in the stream, a batch keeps the highest version of each row.
    """
    again = draw(st.lists(st.sampled_from(history), max_size=5))
    shuffled = draw(st.permutations(history + again))
    batches: list[dict[str, StockLevel]] = [{}]
    for warehouse, level in shuffled:
        if batches[-1] and draw(st.booleans()):
            batches.append({})
        known = batches[-1].get(warehouse)
        if known is None or level.version > known.version:
            batches[-1][warehouse] = level
    return batches


def outcome(history: list[Change]) -> dict[str, StockLevel]:
    """The rows after the whole history: the last of each."""
    return dict(history)
