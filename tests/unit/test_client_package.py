"""The kit is a distribution of its own."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

CLIENT = Path(__file__).parents[2] / "client"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, so that nothing is left in the checkout."""
    place = tmp_path_factory.mktemp("wheel")
    source = place / "client"
    shutil.copytree(CLIENT, source, ignore=shutil.ignore_patterns("*.egg-info", "build"))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    options = ["--no-build-isolation", "--no-index", "--wheel-dir", str(place), str(source)]
    subprocess.run([*command, *options], check=True)
    (built,) = place.glob("*.whl")
    return built


def test_it_installs_one_package_and_says_that_it_is_typed(wheel):
    with zipfile.ZipFile(wheel) as files:
        names = files.namelist()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"stockwire_client"}
    assert "stockwire_client/py.typed" in names
    modules = {path.name for path in (CLIENT / "stockwire_client").glob("*.py")}
    assert {name.partition("/")[2] for name in names if name.endswith(".py")} == modules


def test_it_asks_for_no_more_than_it_uses(wheel):
    with zipfile.ZipFile(wheel) as files:
        (metadata,) = [name for name in files.namelist() if name.endswith("/METADATA")]
        lines = files.read(metadata).decode().splitlines()
    wanted = {line.split()[1].partition(">")[0] for line in lines if line.startswith("Requires-D")}
    assert wanted == {"confluent-kafka", "redis", "pydantic", "typing-extensions"}


def test_it_works_without_anything_else_of_ours(wheel):
    """Everything is imported from the wheel alone, where the checkout is out of reach."""
    script = (
        "import sys, pathlib; sys.path.insert(0, sys.argv[1])\n"
        "import stockwire_client\n"
        "for name in stockwire_client.__all__: getattr(stockwire_client, name)\n"
        "assert sys.argv[1] in stockwire_client.__file__\n"
        "ours = ('inventory', 'projections', 'connectors', 'stream', 'sql', 'cli', 'contracts')\n"
        "print([m for m in ours if m in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(wheel)],
        capture_output=True,
        text=True,
        check=True,
        cwd=wheel.parent,
    )
    assert done.stdout.strip() == "[]"
