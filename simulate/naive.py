"""Read, then write: here only to show how it oversells. Nothing else may sell like this."""

from psycopg_pool import AsyncConnectionPool

from reservations.basket import Reason
from reservations.pool import outages
from simulate.buyers import Buyer, Told
from simulate.item import Item
from sql.queries import load_queries

_QUERIES = load_queries()


class NaiveSeller:
    """Looks how many units are free and, if there is one, writes down one more as reserved.

    Between the two, others read the same number: each believes to have the last unit, and of what
    they write only the last one counts. A transaction around it, as here, changes nothing.
    """

    retries = 0

    def __init__(self, pool: AsyncConnectionPool, item: Item) -> None:
        """Sell one item over these connections."""
        self._pool = pool
        self._item = item

    async def sell(self, buyer: Buyer) -> Told:
        """Promise a unit if one was free a moment ago.

        Raises:
            Outage: Postgres takes no work.
        """
        row = {"sku": self._item.sku, "warehouse": self._item.warehouse}
        with outages():
            async with self._pool.connection() as connection, connection.transaction():
                cursor = await connection.execute(_QUERIES["naive_read"], row)
                found = await cursor.fetchone()
                if found is None or found[1] < 1:
                    return Told(granted=False, reason=Reason.INSUFFICIENT)
                wanted = {"reserved": found[0] + 1, "reference": self._item.reference(buyer)}
                await connection.execute(_QUERIES["naive_write"], row | wanted)
        return Told(granted=True)
