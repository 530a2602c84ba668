"""A network between two parts that is slow, silent, or cuts an answer off."""

import time

from tests.chaos.fault import Timeline
from tests.chaos.world import World
from tests.polling import eventually

_LATENCY_SECONDS = 0.2
_SLOW_FOR = 10.0
_SILENT_FOR = 15.0
_RESETS = 3
_RESET_FOR = 60.0


def latency(world: World, timeline: Timeline, client: str, server: str) -> None:
    """Everything between the two takes 200 ms each way."""
    before = world.proxy.counters(client, server)["delayed"]
    timeline.inject()
    with world.proxy.rule(client, server, "latency", _LATENCY_SECONDS):
        time.sleep(_SLOW_FOR)  # The slow network is the fault itself.
        delayed = world.proxy.counters(client, server)["delayed"] - before
    timeline.heal()
    timeline.prove(delayed > 0, f"{delayed:,} packets came 200 ms late")


def blackhole(world: World, timeline: Timeline, client: str, server: str) -> None:
    """Nothing arrives for 15 s, and nobody is told."""
    before = world.proxy.counters(client, server)["held"]
    timeline.inject()
    with world.proxy.rule(client, server, "blackhole"):
        time.sleep(_SILENT_FOR)  # The silence is the fault itself.
        held = world.proxy.counters(client, server)["held"] - before
    timeline.heal()
    timeline.prove(held > 0, f"{held} connections fell silent")


def reset(world: World, timeline: Timeline, client: str, server: str, every: int) -> None:
    """The request is carried out, and there is a reset instead of every n-th answer; three."""
    before = world.proxy.counters(client, server)["resets"]

    def resets() -> int:
        return world.proxy.counters(client, server)["resets"] - before

    timeline.inject()
    with world.proxy.rule(client, server, "reset", every):
        eventually(lambda: resets() >= _RESETS, timeout=_RESET_FOR)
    timeline.heal()
    timeline.prove(resets() >= _RESETS, f"{resets()} answers were cut off")
