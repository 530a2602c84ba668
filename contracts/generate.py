"""Write the contracts, or see whether they are as the code says.

python -m contracts.generate            write contracts/*.v1.json and contracts/asyncapi.json
python -m contracts.generate --check    change nothing; exit 1 if a file is not current, or if the
                                        contracts break with the last released ones
python -m contracts.generate --release  make the present contracts the released ones
"""

import argparse
import json
import sys
import tomllib
from pathlib import Path

from contracts.asyncapi import document
from contracts.compatibility import breaks
from contracts.schemas import CONTRACTS, Schema, schema_of

HERE = Path(__file__).parent
RELEASED = HERE / "released"


def documents() -> dict[str, Schema]:
    """Every document, by its file name."""
    with (HERE.parent / "client" / "pyproject.toml").open("rb") as file:
        version: str = tomllib.load(file)["project"]["version"]
    return {f"{name}.v1.json": schema_of(name) for name in CONTRACTS} | {
        "asyncapi.json": document(version)
    }


def as_text(made: Schema) -> str:
    """A document as it stands in its file."""
    return json.dumps(made, indent=2, ensure_ascii=False) + "\n"


def problems(folder: Path = HERE, released: Path = RELEASED) -> list[str]:
    """What is wrong with the files, one sentence each."""
    made = documents()
    stale = [
        f"{name} is not what the code says: run `make contracts`."
        for name, content in made.items()
        if not (folder / name).exists() or (folder / name).read_text() != as_text(content)
    ]
    broken: list[str] = []
    for path in sorted(released.glob("*.v1.json")):
        if path.name not in made:
            broken.append(f"{path.name} was released and is gone: v1 must stay.")
            continue
        broken += [
            f"{path.name}: {problem}"
            for problem in breaks(json.loads(path.read_text()), made[path.name])
        ]
    return stale + broken


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m contracts.generate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--check", action="store_true", help="change nothing, say what is wrong")
    choice.add_argument("--release", action="store_true", help="also write contracts/released")
    chosen = parser.parse_args(arguments)
    if not chosen.check:
        for name, content in documents().items():
            (HERE / name).write_text(as_text(content))
    found = problems()
    if chosen.release and not found:
        for name in CONTRACTS:
            (RELEASED / f"{name}.v1.json").write_text((HERE / f"{name}.v1.json").read_text())
    for problem in found:
        print(problem, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
