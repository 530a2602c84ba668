"""Settings shared by every process, read from `STOCKWIRE_*` environment variables."""

import os
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlsplit, urlunsplit

from pydantic import (
    AnyHttpUrl,
    Field,
    PostgresDsn,
    RedisDsn,
    StringConstraints,
    UrlConstraints,
    ValidationError,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from inventory.errors import SettingsError

PREFIX = "STOCKWIRE_"

#: The libpq password file that the embedded stack writes into `stack_dir`.
PASSFILE = "pgpass"

_Bootstrap = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9_.\-]+:\d{1,5}(,[A-Za-z0-9_.\-]+:\d{1,5})*$"),
]
_Dsn = Annotated[PostgresDsn, UrlConstraints(allowed_schemes=["postgresql", "postgres"])]


class Settings(BaseSettings):
    """Where the servers are, and how the work is divided.

    Secrets are not settings: the Postgres DSN may name a `passfile`, and the embedded stack
    writes one (mode 600) into `stack_dir`.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    postgres_dsn: _Dsn | None = Field(
        None,
        description="a libpq URL, e.g. postgresql://stockwire_app@127.0.0.1:15432/stockwire; "
        "without it, the embedded stack's",
    )
    replica_dsn: _Dsn | None = Field(
        None,
        description="a libpq URL of a server that follows, e.g. "
        "postgresql://stockwire_app@127.0.0.1:15433/stockwire; without it, the primary answers "
        "what may be stale too",
    )
    postgres_admin_user: str = Field(
        "postgres",
        min_length=1,
        description="the role that runs migrations in the same database, e.g. postgres",
    )
    redis_url: RedisDsn = Field(
        RedisDsn("redis://127.0.0.1:16379/0"),
        description="a Redis URL, e.g. redis://127.0.0.1:16379/0",
    )
    kafka_bootstrap: _Bootstrap = Field(
        "127.0.0.1:19092", description="host:port[,host:port], e.g. 127.0.0.1:19092"
    )
    connect_url: AnyHttpUrl = Field(
        AnyHttpUrl("http://127.0.0.1:18083"),
        description="the URL of Kafka Connect's REST interface, e.g. http://127.0.0.1:18083",
    )
    payment_url: AnyHttpUrl | None = Field(
        None,
        description="the URL of the payment service, e.g. http://127.0.0.1:18190; without it, and "
        "one of shipping, no checkouts are carried out",
    )
    shipping_url: AnyHttpUrl | None = Field(
        None,
        description="the URL of the shipping service, e.g. http://127.0.0.1:18190; without it, and "
        "one of payment, no checkouts are carried out",
    )
    stack_dir: Path = Field(
        Path(".stack"), description="a directory for the embedded stack's data, e.g. .stack"
    )
    partitions: int = Field(
        6, ge=1, le=1024, description="a whole number from 1 to 1024: partitions per topic"
    )

    health_port: int | None = Field(
        None,
        ge=1,
        le=65535,
        description="a port on 127.0.0.1 from 1 to 65535, e.g. 18091; without it, the process "
        "does not answer for its health",
    )
    stall_seconds: float = Field(
        30.0,
        ge=1.0,
        le=3600.0,
        description="seconds from 1 to 3600 that a worker may have lag and not move before it "
        "ends itself, e.g. 30",
    )
    fresh_seconds: float = Field(
        10.0,
        ge=1.0,
        le=3600.0,
        description="seconds from 1 to 3600 that the newest change applied may be old while a "
        "worker calls itself ready, e.g. 10",
    )

    @property
    def replica_conninfo(self) -> str | None:
        """The libpq URL for reads that may be stale; None where there is no replica."""
        return None if self.replica_dsn is None else str(self.replica_dsn)

    def conninfo(self, user: str | None = None) -> str:
        """The libpq URL for the application's role, or for another role of the same database."""
        dsn = self.postgres_dsn or PostgresDsn(
            "postgresql://stockwire_app@127.0.0.1:15432/stockwire"
            f"?passfile={quote(str(self.stack_dir.resolve() / PASSFILE))}"
        )
        if user is None:
            return str(dsn)
        parts = urlsplit(str(dsn))
        place = parts.netloc.rpartition("@")[2]
        return urlunsplit(parts._replace(netloc=f"{quote(user)}@{place}"))


def load_settings(**overrides: Any) -> Settings:
    """Read the settings from the environment; only entry points call this.

    Raises:
        SettingsError: a `STOCKWIRE_*` variable is unknown or malformed; the text names it and
            says what it accepts.
    """
    fields = Settings.model_fields
    known = {PREFIX + name.upper() for name in fields}
    unknown = sorted(v for v in os.environ if v.upper().startswith(PREFIX) and v not in known)
    if unknown:
        raise SettingsError(
            f"Unknown setting {', '.join(unknown)}. Known are {', '.join(sorted(known))}."
        )
    try:
        return Settings(**overrides)
    except ValidationError as exc:
        problems = []
        for error in exc.errors(include_url=False):
            name = str(error["loc"][0])
            accepts = fields[name].description if name in fields else "nothing by that name"
            problems.append(
                f"{PREFIX}{name.upper()}={error['input']!r} is not accepted "
                f"({error['msg']}). It takes {accepts}."
            )
        raise SettingsError(" ".join(problems)) from None
