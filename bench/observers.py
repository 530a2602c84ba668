"""Both observers in a process of their own, so that no other Python thread delays what they see.

`Observers` starts that process and reads its reports; `python -m bench.observers` is that process:
it prints one report as JSON per line, and ends when its standard input does.
"""

import argparse
import json
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from typing import Self

from bench.arrivals import REDIS, Arrivals, Edits, EditSummaries
from bench.channel_observer import ChannelObserver, Watched
from bench.latencies import Latencies, LatencySummary
from bench.redis_observer import RedisObserver
from inventory.errors import Outage, StockwireError
from inventory.settings import Settings, load_settings
from inventory.topics import CHANNEL_TOPICS

#: Topic → channel name; a channel's topic is `stock.<channel>.v1`.
CHANNELS = {spec.name: spec.name.split(".")[1] for spec in CHANNEL_TOPICS}

_REPORT_SECONDS = 0.25
_START_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Report:
    """What was observed so far.

    Attributes:
        latencies: commit → arrival of stock changes, in `REDIS` and in each channel.
        overtaken: writes to Redis that are not among the latencies, see `bench.redis_observer`.
        watched: units of the watched SKU, by channel.
        cpu: the observers' share of one core since they started, 0 to 1.
        edits: commit → arrival of what policy edits had computed anew, see `bench.arrivals`.
    """

    latencies: Mapping[str, LatencySummary]
    overtaken: int = 0
    watched: Mapping[str, int] = field(default_factory=dict)
    cpu: float = 0.0
    edits: EditSummaries = field(default_factory=dict)

    @classmethod
    def from_json(cls, line: str) -> Self:
        """The inverse of `to_json`."""
        values = json.loads(line)
        latencies = _summaries(values.pop("latencies"))
        edits = {int(at_us): _summaries(places) for at_us, places in values.pop("edits").items()}
        return cls(latencies, edits=edits, **values)

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))


def _summaries(values: Mapping[str, Mapping[str, float | None]]) -> dict[str, LatencySummary]:
    return {place: LatencySummary.from_json(summary) for place, summary in values.items()}


class Observers:
    """The observer process, as its parent sees it; `observing` starts one."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        """Read the reports of this process; its standard input and output are pipes."""
        self._process = process
        self._report: Report | None = None
        self._first = threading.Event()
        self._thread = threading.Thread(target=self._read, name="observers", daemon=True)
        self._thread.start()

    @property
    def report(self) -> Report:
        """The latest report; waits for the first, which says that everything is subscribed.

        Raises:
            Outage: the observers have given up; why is on stderr.
        """
        self._first.wait(_START_SECONDS)
        if self._report is None or self._process.poll():
            raise Outage("Redis and the channels cannot be observed; see what runs: make status.")
        return self._report

    def finish(self) -> Report:
        """Stop observing; the last report holds everything that arrived.

        Raises:
            Outage: the observers have given up; why is on stderr.
        """
        self.stop()
        return self.report

    def stop(self) -> None:
        """Stop observing, and return when the process is gone."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._thread.join()
        self._process.wait()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as reports:
            for line in reports:
                self._report = Report.from_json(line)
                self._first.set()
        self._first.set()


@contextmanager
def observing(environment: Mapping[str, str], watch: str | None = None) -> Iterator[Observers]:
    """Count the arrival of every commit made inside this context.

    Args:
        environment: `STOCKWIRE_*` variables that lead to the stack.
        watch: a SKU whose units each channel's messages are read for.

    Raises:
        Outage: Redis or Kafka does not answer; why is on stderr.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.observers", *(("--watch", watch) if watch else ())],
        env=dict(environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # Ctrl-C is for the parent, which ends this one by closing its standard input.
        start_new_session=True,
    )
    observers = Observers(process)
    try:
        _ = observers.report
        yield observers
    finally:
        observers.stop()


def observe(settings: Settings, watch: str | None) -> None:
    """Observe and print until standard input ends.

    Raises:
        Outage: Redis or Kafka does not answer, or no longer.
    """
    latencies = {name: Latencies() for name in (REDIS, *CHANNELS.values())}
    watched = Watched(watch) if watch else None
    edits = Edits()
    since_us = time.time_ns() // 1000
    with ExitStack() as stack:
        redis = RedisObserver(settings.redis_url, Arrivals(latencies, edits, since_us))
        stack.callback(redis.close)
        channels = ChannelObserver(
            settings.kafka_bootstrap, CHANNELS, Arrivals(latencies, edits, since_us), edits, watched
        )
        stack.callback(channels.close)
        started, used = time.monotonic(), time.process_time()

        def report() -> None:
            share = (time.process_time() - used) / max(time.monotonic() - started, 0.001)
            summaries = {name: latencies[name].summary() for name in latencies}
            units = watched.units() if watched else {}
            cpu = round(share, 3)
            seen = Report(summaries, redis.overtaken, units, cpu, edits.summaries())
            print(seen.to_json(), flush=True)

        stopping = threading.Event()
        with ThreadPoolExecutor() as pool:
            try:
                running = [pool.submit(o.run, stopping) for o in (redis, channels)]
                while not any(future.done() for future in running):
                    report()
                    if select.select([sys.stdin], [], [], _REPORT_SECONDS)[0]:
                        break
            finally:
                stopping.set()
        for future in running:
            future.result()
        report()


def main() -> int:
    """Run the observers as a process."""
    parser = argparse.ArgumentParser(prog="python -m bench.observers")
    parser.add_argument("--watch", help="a SKU whose units are reported by channel")
    try:
        observe(load_settings(), parser.parse_args().watch)
    except StockwireError as exc:
        print(f"observers: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
