"""Where the chaos stack listens, and where the proxy in front of it does; all below 32768."""

from dataclasses import dataclass
from urllib.parse import quote

from inventory.settings import PASSFILE, Settings
from tests.conftest import ROOT

STACK_DIR = ROOT / ".stack-chaos"
HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Served:
    """The ports of the servers."""

    postgres: int
    redis: int
    kafka: int
    connect: int

    def settings(self) -> Settings:
        """Settings that lead to these ports."""
        passfile = quote(str(STACK_DIR / PASSFILE))
        return Settings(
            stack_dir=STACK_DIR,
            postgres_dsn=f"postgresql://stockwire_app@{HOST}:{self.postgres}/stockwire?passfile={passfile}",
            redis_url=f"redis://{HOST}:{self.redis}/0",
            kafka_bootstrap=f"{HOST}:{self.kafka}",
            connect_url=f"http://{HOST}:{self.connect}",
        )


#: Where the servers listen.
DIRECT = Served(30432, 30379, 30092, 30183)

#: Where everybody talks to them.
PROXIED = Served(31432, 31379, 31092, 31183)

#: The second Postgres of the failover.
STANDBY_PORT = 30532

ROUTES = {
    server: (getattr(PROXIED, server), getattr(DIRECT, server))
    for server in ("postgres", "redis", "kafka", "connect")
}
