"""Which of Redis' answers mean "later" rather than "never"."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from stockwire_client.errors import Unavailable

# LOADING and refused passwords are connection errors of the client too.
_TRANSIENT_TYPES: Final = (RedisConnectionError, RedisTimeoutError)
_TRANSIENT_CODES: Final = re.compile(r"(?:BUSY|CLUSTERDOWN|LOADING|MASTERDOWN|TRYAGAIN) ")


@contextmanager
def redis_unavailable() -> Iterator[None]:
    """Turn the errors of a Redis that is away or loading into `Unavailable`.

    Every other error, such as a key of the wrong type, is a fault that waiting does not mend and
    passes through.
    """
    try:
        yield
    except RedisError as exc:
        if isinstance(exc, _TRANSIENT_TYPES) or (
            isinstance(exc, ResponseError) and _TRANSIENT_CODES.match(str(exc))
        ):
            raise Unavailable(
                f"Redis does not answer ({exc}): check the address, or ask again later."
            ) from exc
        raise
