"""The auditor and the guardian look on: what they must do, and what they must leave alone."""

from collections.abc import Callable

from stockwire_client.names import availability_key
from tests.chaos.fault import Timeline
from tests.chaos.world import Watched, World
from tests.polling import eventually

#: A pass, what is in flight, a snapshot of one SKU, and a look whether that has helped.
_HEAL_SECONDS = 150.0
_RESTARTS = "restarting what failed"
_ACTIONS = (_RESTARTS, "stopping the line", "could not act")


def healed_by_auditor(world: World, timeline: Timeline, run: Callable[..., None]) -> None:
    """Run a fault that the auditor is to mend, and prove that it was the auditor."""
    before = _healed(world)
    run(world, timeline)
    eventually(lambda: _healed(world) > before, timeout=_HEAL_SECONDS)
    timeline.prove(True, f"the auditor healed {_healed(world) - before} SKUs")


def auditor_heals(world: Watched, timeline: Timeline) -> None:
    """A key that nobody else writes is lost, and the auditor has it sent again."""
    key = availability_key(world.spares.pop())
    before = eventually(lambda: (_healed(world),))[0]
    with world.redis() as client:
        assert client.delete(key)
        eventually(lambda: client.exists(key), timeout=_HEAL_SECONDS)
    eventually(lambda: _healed(world) > before, timeout=_HEAL_SECONDS)
    timeline.prove(True, "afterwards the auditor healed a lost key")


def guardian_watches(world: World, timeline: Timeline) -> None:
    """It sees the slot and the connector, and is content."""
    eventually(lambda: (answer := world.stack.ask("guardian")) is not None and answer.ready)
    facts = world.facts_of("guardian")
    timeline.prove(
        facts["slot_active"] and not facts["line_stopped"], "afterwards the guardian saw all"
    )


def undisturbed(world: World, timeline: Timeline, run: Callable[..., None]) -> None:
    """Run a fault that onlookers meet alone; where nothing is wrong nothing is to be mended."""
    since, drifted, auditor = (
        world.log_size("guardian"),
        _figure(world, "drifted"),
        world.pid("auditor"),
    )
    run(world, timeline)
    # What was begun during the fault is through after the second pass from now.
    passes = eventually(lambda: _figure(world, "passes")) + 2
    eventually(lambda: _figure(world, "passes") >= passes, timeout=_HEAL_SECONDS)
    done = [action for action in _ACTIONS if world.logged("guardian", action, since)]
    assert not done, f"the guardian's log: {done}, though nothing was wrong"
    assert world.pid("auditor") == auditor, "the auditor was started again, its figures with it"
    found = _figure(world, "drifted")
    assert found == drifted, f"the auditor found drift in {found - drifted} SKUs that had none"


def restarted_by_guardian(world: World, since: int) -> bool:
    """Whether its log, from a position on, says that it has restarted a task."""
    return world.logged("guardian", _RESTARTS, since)


def _healed(world: World) -> int:
    return _figure(world, "healed")


def _figure(world: World, name: str) -> int:
    figure = world.facts_of("auditor").get(name, 0)
    assert isinstance(figure, int)
    return figure
