"""A broker whose disk is full."""

import os
import shutil
import subprocess
from pathlib import Path

from tests.chaos.fault import Timeline
from tests.chaos.world import World
from tests.polling import eventually

_FREE_MB = 24
_GROWN = "2g"


def no_mount() -> str | None:
    """Why no file system can be mounted here."""
    if os.getuid() != 0:
        return "mounting a tmpfs needs root"
    probe = subprocess.run(
        ["mount", "--fake", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False
    )
    return None if probe.returncode == 0 else "mounting is not allowed here"


def full(world: World, timeline: Timeline) -> None:
    """The log directory is a tmpfs with room for a few seconds; then it grows by remounting."""
    data = world.stack.places.data / "kafka"
    kept = data.with_name("kafka.kept")
    world.stack.stop_part("kafka")
    data.rename(kept)
    data.mkdir()
    needed = int(subprocess.check_output(["du", "-sk", str(kept)]).split()[0]) // 1024
    mount("-t", "tmpfs", "-o", f"size={needed + _FREE_MB}m", "tmpfs", str(data))
    try:
        shutil.copytree(kept, data, dirs_exist_ok=True)
        since = world.log_size("kafka")
        timeline.inject()
        world.stack.start_part("kafka")
        ballast = data / "ballast"
        _fill(ballast)
        full = "No space left on device"
        eventually(lambda: world.logged("kafka", full, since), timeout=120)
        timeline.prove(True, f"the broker's log: {full}")
        # It ends, and supervisord starts it again in vain until somebody makes room.
        pid = world.pid("kafka")
        eventually(lambda: world.pid("kafka") != pid, timeout=60)
        world.stack.stop_part("kafka")
        mount("-o", f"remount,size={_GROWN}", str(data))
        ballast.unlink()
        world.stack.start_part("kafka")
        timeline.heal()
        assert world.probe.wait_until_fresh(90)
    finally:
        world.stack.stop_part("kafka")
        shutil.rmtree(kept)
        shutil.copytree(data, kept)
        subprocess.run(["umount", str(data)], check=True)
        data.rmdir()
        kept.rename(data)
        world.stack.start_part("kafka")


def _fill(path: Path) -> None:
    """Take what is left but a little, so that the next segments do not fit."""
    left = shutil.disk_usage(path.parent).free
    with path.open("wb") as file:
        file.write(b"\0" * max(0, left - 4 * 2**20))


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)
