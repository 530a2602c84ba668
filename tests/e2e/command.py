"""The `stockwire` command, as a person runs it."""

import json
import os
import subprocess
import sys

from tests.conftest import ROOT

#: A recovery waits for the workers.
_SECONDS = 300


def stockwire(stack, *arguments):
    """Run it with the settings of a stack, and nothing of the environment's."""
    outside = {k: v for k, v in os.environ.items() if not k.startswith("STOCKWIRE_")}
    return subprocess.run(
        [sys.executable, "-c", "from cli.main import run; run()", *arguments],
        cwd=ROOT,
        env=outside | stack.environment(),
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )


def doctor(stack):
    """What `stockwire doctor --json` says: the exit code, and its findings."""
    done = stockwire(stack, "doctor", "--json")
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def mend_of(findings, check):
    """What mends the trouble that a check has found."""
    return "; ".join(f["mend"] for f in findings if f["check"] == check and f["mend"])
