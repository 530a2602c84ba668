"""Where figures were measured: they say little without it."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import httpx
import psutil
import psycopg
import redis

from inventory.settings import Settings

_PACKAGES = ("faust-streaming", "aiokafka", "confluent-kafka", "redis", "pydantic")


def describe(settings: Settings) -> dict[str, str]:
    """The machine and the versions of a running stack."""
    with psycopg.connect(settings.conninfo()) as connection:
        postgres = connection.info.parameter_status("server_version") or "unknown"
    with redis.Redis.from_url(str(settings.redis_url)) as client:
        redis_version = client.info("server")["redis_version"]
    with httpx.Client(base_url=str(settings.connect_url), trust_env=False) as connect:
        kafka = connect.get("/").raise_for_status().json()["version"]
        plugins = connect.get("/connector-plugins").raise_for_status().json()
    debezium = next((p["version"] for p in plugins if "postgres" in p["class"].lower()), "unknown")
    return {
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{psutil.virtual_memory().total / 2**30:.1f} GiB",
        "system": platform.platform(),
        "Python": platform.python_version(),
        "Postgres": postgres,
        "Kafka and Connect": kafka,
        "Debezium": debezium,
        "Redis": redis_version,
        **{package: version(package) for package in _PACKAGES},
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
