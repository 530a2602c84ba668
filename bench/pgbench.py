"""Our own statements run by pgbench: what Postgres gives to a client that costs next to nothing."""

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from bench.latencies import Latencies
from compose.embedded.postgres import wheel_files
from inventory.errors import Outage, StackError

_PLACEHOLDER = re.compile(r"%\((\w+)\)s")
#: Seconds beyond the run that it may take to connect and to end.
_PATIENCE = 60.0
#: A transaction that was overtaken is tried again, as ours is.
_MOST_TRIES = 100
#: As our own connections have it.
_OPTIONS = "-c plan_cache_mode=force_generic_plan"


class Reference(NamedTuple):
    """What pgbench reached."""

    per_second: float
    p99_ms: float | None
    retried: int


def as_script(statement: str, values: Mapping[str, str]) -> str:
    """A named query as pgbench takes it: each `%(name)s` replaced by an SQL expression.

    Raises:
        KeyError: the query has a placeholder that there is no expression for.
    """
    replaced = _PLACEHOLDER.sub(lambda match: f"({values[match[1]]})", statement)
    return replaced.replace("%%", "%")


def run_pgbench(conninfo: str, script: str, clients: int, seconds: float) -> Reference:
    """Run a script again and again by so many clients, prepared, each statement by itself.

    Raises:
        StackError: there is no pgbench.
        Outage: it failed; the text has what it said.
    """
    with TemporaryDirectory(prefix="stockwire-pgbench-") as folder:
        file = Path(folder) / "script.sql"
        file.write_text(script)
        command = [
            str(_program()),
            *("--no-vacuum", "--protocol=prepared", f"--file={file}"),
            *(f"--client={clients}", "--jobs=1", f"--time={max(1, round(seconds))}"),
            *(f"--max-tries={_MOST_TRIES}", "--log", f"--log-prefix={folder}/log", conninfo),
        ]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=seconds + _PATIENCE,
            env=os.environ | {"PGOPTIONS": _OPTIONS},
            check=False,
        )
        if done.returncode:
            raise Outage(f"pgbench failed: {' '.join(done.stderr.split())[-500:]}")
        latencies = Latencies()
        for log in Path(folder).glob("log.*"):
            for line in log.read_text().splitlines():
                # client, number, µs, …; a transaction that was given up has a word for its time.
                taken = line.split()[2]
                if taken.isdigit():
                    latencies.record(int(taken))
    return Reference(
        _number(r"^tps = ([0-9.]+)", done.stdout),
        latencies.summary().p99,
        int(_number(r"^total number of retries: (\d+)", done.stdout)),
    )


def _program() -> Path:
    program = wheel_files()[0] / "bin" / "pgbench"
    if not program.exists():
        raise StackError(f"There is no pgbench at {program}; `make setup` installs the wheel.")
    return program


def _number(pattern: str, text: str) -> float:
    found = re.search(pattern, text, re.MULTILINE)
    if found is None:
        raise Outage(f"pgbench said nothing of {pattern!r}: {' '.join(text.split())[-500:]}")
    return float(found[1])
