"""Which of Redis' answers mean "later" rather than "never"."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ReadOnlyError, RedisError, ResponseError
from redis.exceptions import OutOfMemoryError as RedisOutOfMemoryError
from redis.exceptions import TimeoutError as RedisTimeoutError

from inventory.errors import Outage

_TRANSIENT_TYPES = (
    RedisConnectionError,  # LOADING and refused passwords are of this type too
    RedisTimeoutError,
    ReadOnlyError,
    RedisOutOfMemoryError,
    NoScriptError,
)
# For the rest only the code in the text tells; inside a script Redis 6 wraps every code into its
# own text: "Error running script …: -OOM command not allowed …".
_TRANSIENT_CODES = re.compile(
    r"(?:^|: -)(?:BUSY|CLUSTERDOWN|LOADING|MASTERDOWN|MISCONF|NOREPLICAS|OOM|READONLY|TRYAGAIN) "
)


@contextmanager
def redis_outages() -> Iterator[None]:
    """Turn the errors of a Redis that is away, full, read-only or loading into `Outage`.

    Every other error, such as a key of the wrong type, is a fault that waiting does not mend and
    passes through.
    """
    try:
        yield
    except RedisError as exc:
        if is_outage(exc):
            raise Outage(
                f"Redis takes no work ({exc}); it is tried again. "
                "Look at its log, memory and disk if this lasts."
            ) from exc
        raise


def is_outage(exc: RedisError) -> bool:
    """Whether the same command can succeed later."""
    return isinstance(exc, _TRANSIENT_TYPES) or (
        isinstance(exc, ResponseError) and _TRANSIENT_CODES.search(str(exc)) is not None
    )
