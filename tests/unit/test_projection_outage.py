"""Which errors of Redis are waited out."""

import pytest
from redis.exceptions import (
    BusyLoadingError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from inventory.errors import Outage
from projections.outage import redis_outages

# As Redis 6.2 says it from inside a script.
WRAPPED = "Error running script (call to f_beef): @user_script:1: @user_script: 1: "


@pytest.mark.parametrize(
    "error",
    [
        RedisConnectionError("refused"),
        RedisTimeoutError("slow"),
        BusyLoadingError("loading"),
        NoScriptError("No matching script."),
        ReadOnlyError("You can't write against a read only replica."),
        OutOfMemoryError("command not allowed when used memory > 'maxmemory'."),
        ResponseError("MISCONF Redis is configured to save RDB snapshots"),
        ResponseError("NOREPLICAS Not enough good replicas to write."),
        ResponseError(WRAPPED + "-OOM command not allowed when used memory > 'maxmemory'."),
        ResponseError(WRAPPED + "-READONLY You can't write against a read only replica."),
    ],
    ids=repr,
)
def test_these_pass(error):
    with pytest.raises(Outage, match="it is tried again") as caught, redis_outages():
        raise error
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    "error",
    [
        ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value"),
        ResponseError(
            WRAPPED + "WRONGTYPE Operation against a key holding the wrong kind of value"
        ),
        ResponseError("apply.lua: malformed row for key 1"),
        ResponseError("wrong number of arguments: NO-OOM here"),
        RedisError("other"),
    ],
    ids=repr,
)
def test_these_do_not(error):
    with pytest.raises(RedisError) as caught, redis_outages():
        raise error
    assert caught.value is error
