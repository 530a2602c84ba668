"""Reads and writes both hashes of many SKUs: whole, and beside the workers.

`Space` is one logical database of Redis. A rebuild fills one that nobody else writes (`load`), or
mends the live one (`replace`), where a worker may write the same SKU at any time.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any, NamedTuple, TypeVar

import orjson
from hiredis import pack_command
from redis import Redis
from redis.exceptions import NoScriptError, RedisError, ResponseError

from inventory.names import stock_key
from projections.bulk import Fields, Sku
from projections.fields import REVISION_FIELD
from projections.outage import is_outage, redis_outages
from projections.script import Command, Script
from stockwire_client.names import availability_key

_REPLACE = "replace.lua"
_LOAD = "load.lua"

#: SKUs in one call of a script; Redis serves nobody else meanwhile.
_SKUS_PER_CALL = 50
#: SKUs in one round trip.
_SKUS_PER_TRIP = 500

#: The stub has it take one argument only.
_pack: Any = pack_command

_T = TypeVar("_T")


class Kept(NamedTuple):
    """What is there of a SKU; `readers` is None where it was not asked for.

    What is there under a key but is no hash counts as nothing.
    """

    stock: Fields
    readers: Fields | None = None


class Fence(NamedTuple):
    """Whose space it is, as the hash `progress` of it must say; `suspects` is a set in it."""

    owner: str
    progress: str
    suspects: str


class Loaded(NamedTuple):
    """A SKU for a space that nobody reads yet.

    Attributes:
        wanted: what it must be.
        suspect: whether the channels may have been told something wrong of it.
        kept: the working state of that space that this was computed from.
    """

    sku: str
    wanted: Sku
    suspect: bool
    kept: Fields


class Space:
    """One key space. Every method raises `Outage` when Redis does not answer.

    Args:
        redis: a blocking client with `decode_responses=False`, of the database that is meant.
    """

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self._scripts: dict[str, Script] = {}

    def read(self, skus: Sequence[str], *, readers: bool) -> list[Kept]:
        """What is kept of each SKU, in the order given."""
        keys = [stock_key(sku) for sku in skus]
        stock = self._hashes(keys)
        if not readers:
            return [Kept(fields) for fields in stock]
        return [*map(Kept, stock, self._hashes([availability_key(sku) for sku in skus]))]

    def load(self, skus: Iterable[Loaded], fence: Fence) -> list[str] | None:
        """Write SKUs to a space that nobody but its rebuild writes.

        Args:
            skus: each is written if its revision is still the one that was read.
            fence: whose space it must be.

        Returns:
            The SKUs that another process has written meanwhile: read them again. None if the space
            is another's, or was emptied: then not all is written.
        """
        refused: list[str] = []
        for some in _portions(skus, _SKUS_PER_TRIP):
            portions = list(_portions(some, _SKUS_PER_CALL))
            replies = self._call(_LOAD, [_loading(portion, fence) for portion in portions])
            for portion, reply in zip(portions, replies, strict=True):
                if reply is None:
                    return None
                refused += [portion[position].sku for position in reply]
        return refused

    def replace(self, skus: Iterable[tuple[str, Sku, Fields]]) -> list[str]:
        """Replace both hashes of SKUs, each if its revision is still the one that was read.

        Args:
            skus: name, what it must be, and the working state that this was computed from.

        Returns:
            The SKUs that somebody else has written meanwhile: read them again.
        """
        refused: list[str] = []
        for some in _portions(skus, _SKUS_PER_CALL):
            keys: list[str] = []
            arguments = []
            for sku, wanted, kept in some:
                keys += (stock_key(sku), availability_key(sku))
                stock = [text.decode() for text in chain.from_iterable(wanted.stock.items())]
                arguments.append((kept.get(REVISION_FIELD, b"").decode(), stock, wanted.readers))
            reply = self.run(_REPLACE, keys, orjson.dumps(arguments))
            refused += [some[position][0] for position in reply]
        return refused

    def run(self, script: str, keys: Sequence[str | bytes], *arguments: str | bytes | int) -> Any:
        """Call one of our scripts, by its file's name; its reply."""
        return self._call(script, [(keys, *arguments)])[0]

    def _call(self, name: str, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Call a script several times in one round trip; a call is its keys, then its arguments."""
        if name not in self._scripts:
            self._scripts[name] = Script(name)
        script = self._scripts[name]
        commands = [script.call(*call) for call in calls]
        replies = self._exchange(commands)
        if any(isinstance(reply, NoScriptError) for reply in replies):
            replies = self._exchange([script.load, *commands])[1:]
        for reply in replies:
            if isinstance(reply, RedisError):
                with redis_outages():
                    raise reply
        return replies

    def _hashes(self, keys: Sequence[str]) -> list[Fields]:
        found: list[Fields] = []
        for some in _portions(keys, _SKUS_PER_TRIP):
            for reply in self._exchange([("HGETALL", key) for key in some]):
                if isinstance(reply, list):  # RESP2
                    fields = iter(reply)
                    found.append(dict(zip(fields, fields, strict=True)))
                elif isinstance(reply, dict):
                    found.append(reply)
                elif isinstance(reply, ResponseError) and not is_outage(reply):
                    found.append({})  # a key of another type
                else:
                    with redis_outages():
                        raise reply
        return found

    def _exchange(self, commands: Sequence[Command]) -> list[Any]:
        """Commands in one round trip; their replies, errors among them.

        A pipeline of the client does the same in twice the time of its Python, which here is most
        of all that is done.
        """
        replies: list[Any] = []
        with redis_outages():
            connection: Any = self.redis.connection_pool.get_connection()
            try:
                connection.send_packed_command([b"".join(_pack(each) for each in commands)])
                for _ in commands:
                    try:
                        replies.append(connection.read_response())
                    except ResponseError as exc:
                        replies.append(exc)
            except BaseException:
                connection.disconnect()  # the rest of the replies may still come
                raise
            finally:
                self.redis.connection_pool.release(connection)
        return replies


def _portions(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some


def _loading(skus: Iterable[Loaded], fence: Fence) -> tuple[Any, ...]:
    """The keys and the arguments of `load.lua`."""
    keys: list[str] = [fence.progress, fence.suspects]
    arguments: list[str | bytes] = [fence.owner]
    for sku, wanted, suspect, kept in skus:
        keys += (stock_key(sku), availability_key(sku))
        arguments += (sku, "1" if suspect else "0", kept.get(REVISION_FIELD, b""))
        arguments += (str(2 * len(wanted.stock)), str(len(wanted.readers)))
        arguments += chain.from_iterable(wanted.stock.items())
        arguments += wanted.readers
    return (keys, *arguments)
