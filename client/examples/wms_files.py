"""Drop a JSON file for every stock level into a folder that a warehouse system picks up from.

A file appears whole or not at all: it is written under a hidden name, forced to disk and renamed.
Its name starts with the row's version, so that names sort as the changes did, and is the same when
a level is delivered again. A file that was picked up before may come once more after a restart:
compare `version` with that of the row.
"""

import argparse
import contextlib
import hashlib
import json
import os
import signal
from pathlib import Path

from stockwire_client import LEVEL, Change, LevelMessage, Subscription


def drop(folder: Path, change: Change[LevelMessage]) -> Path:
    """Write the file of one change; its path."""
    if change.value is not None:
        content: dict[str, object] = {**change.value, "deleted": False}
    else:
        content = {
            "sku": change.sku,
            "warehouse": change.warehouse,
            "version": change.version,
            "deleted": True,
        }
    # A SKU may be longer than a file name, and hold a slash.
    row = hashlib.sha256(change.key.encode()).hexdigest()[:16]
    path = folder / f"{change.version or 0:020}-{row}.json"
    hidden = folder / f".{path.name}.tmp"
    with hidden.open("w", encoding="utf-8") as file:
        json.dump(content, file, ensure_ascii=False)
        file.flush()
        os.fsync(file.fileno())
    hidden.rename(path)
    _sync(folder)
    return path


def _sync(folder: Path) -> None:
    """Force the folder's names to disk: the offset is committed after this."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def main() -> None:
    """Run until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", default="127.0.0.1:19092", help="host:port of Kafka")
    parser.add_argument("--channel", default="wms", help="a channel of kind level")
    parser.add_argument("--group", default="wms-files", help="one group per folder")
    parser.add_argument("--folder", default="wms-inbox", type=Path, help="it is made if missing")
    parser.add_argument("--echoes", action="store_true", help="also what the channel has caused")
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    with (
        Subscription(
            chosen.channel,
            LEVEL,
            bootstrap=chosen.bootstrap,
            group=chosen.group,
            echoes=chosen.echoes,
            on_poison=lambda poison: print(f"passed over: {poison.reason}", flush=True),
        ) as channel,
        contextlib.suppress(KeyboardInterrupt),
    ):
        signal.signal(signal.SIGTERM, lambda *_: channel.stop())
        channel.run(lambda change: drop(chosen.folder, change))


if __name__ == "__main__":
    main()
