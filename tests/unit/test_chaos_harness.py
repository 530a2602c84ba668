"""What the chaos suite's own parts must do: a check that cannot fail checks nothing."""

import json
import threading
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from compose.embedded.workers import WORKERS
from stockwire_client.names import availability_key
from tests.chaos import runner
from tests.chaos.bounded import TooLong, bounded
from tests.chaos.checks import MEMORY, RESTART_US, is_restart, too_much_memory
from tests.chaos.fault import Fault, NoProof, Timeline
from tests.chaos.faults import onlookers
from tests.chaos.faults.onlookers import auditor_heals, healed_by_auditor, undisturbed
from tests.chaos.probe import Probe, choose
from tests.chaos.registry import AUDITOR, FAULTS
from tests.chaos.report import BEGIN, END, tables, write
from tests.chaos.results import Results
from tests.chaos.witness import RedisWitness, StepBack, TopicWitness
from tests.polling import eventually


@pytest.fixture
def witness():
    made = TopicWitness.__new__(TopicWitness)
    made.remember()
    return made


def told(steps):
    return [str(step) for step in steps]


def test_what_was_told_before_may_be_told_again(witness):
    for version in (2, 4, 6, 2, 4, 6, 8):
        witness.check("web", b"SKU", version, [version])
    assert (witness.told_again, witness.backwards) == (2, [])


def test_a_repeat_says_the_same(witness):
    for version, available in ((2, 7), (4, 6), (6, 5), (4, 7)):
        witness.check("web", b"SKU", version, [available])
    assert (witness.told_again, told(witness.backwards)) == (0, ["web SKU: 6 then 4"])


def test_what_is_new_must_not_come_after_something_newer(witness):
    for version in (2, 6, 4, 5, 8, 7):
        witness.check("web", b"SKU", version)
    assert told(witness.backwards) == [
        "web SKU: 6 then 4",
        "web SKU: 6 then 5",
        "web SKU: 8 then 7",
    ]


def test_rows_that_a_snapshot_has_overtaken_are_apart(witness):
    for version in (2, 6, 4, 4):
        witness.check("wms", b"SKU", version)
    assert (told(witness.overtaken), witness.backwards) == (["wms SKU: 6 then 4"], [])
    assert witness.told_again == 1


def test_a_change_is_told_to_a_ledger_under_one_id(witness):
    movement = {"sku": "SKU", "warehouse": "WH-1", "version": 2, "movement_id": "SKU|WH-1|2"}
    for each in (movement, movement, movement | {"version": 3, "movement_id": "SKU|WH-1|3"}):
        witness.count(each)
    assert witness.twice == []
    witness.count(movement | {"movement_id": "other"})
    assert witness.twice == ["SKU|WH-1|2 and other"]


def test_a_clock_begins_anew_only_where_redis_was_lost():
    restarted = {fault.name for fault in FAULTS if fault.clocks_restart}
    assert restarted == {"redis flushed", "redis empty", "redis behind"}


@pytest.mark.parametrize(
    ("before", "after", "clock", "allowed"),
    [
        (RESTART_US, 0, True, True),
        (RESTART_US + 1, 0, True, False),
        (8, 6, False, False),
    ],
)
def test_a_clock_restarts_a_little_below_and_a_row_never(before, after, clock, allowed):
    assert is_restart(StepBack("SKU web", before, after, clock)) is allowed


def test_what_was_told_late_says_whether_it_is_a_clock(witness):
    for place in ("web", "wms"):
        for version in (6, 8, 7):
            witness.check(place, b"SKU", version)
    assert [step.clock for step in (*witness.backwards, *witness.overtaken)] == [True, False]


@pytest.fixture
def reader():
    made = RedisWitness.__new__(RedisWitness)
    made.remember()
    return made


def test_what_redis_was_not_given_back_is_seen(reader):
    for version in (8, 4):
        reader.check("SKU", "WH-1", version)
        reader.check("SKU", "web", version)
        reader.round_ends()
    assert set(told(reader.behind())) == {"SKU WH-1: 8 then 4", "SKU web: 8 then 4"}
    assert {step.what: step.clock for step in reader.behind()} == {
        "SKU WH-1": False,
        "SKU web": True,
    }
    reader.check("SKU", "WH-1", 8)
    reader.round_ends()
    assert reader.behind() == []
    assert told(reader.backwards) == ["SKU WH-1: 8 then 4", "SKU web: 8 then 4"]


def test_memory_is_bounded_for_each_process_of_ours():
    assert set(MEMORY) == set(WORKERS)
    first = {}
    usual = dict.fromkeys(WORKERS, 50)
    assert list(too_much_memory(usual, first)) == []
    assert first == usual
    for name, (most, growth) in MEMORY.items():
        (said,) = too_much_memory(usual | {name: 50 + growth + 1}, dict(first))
        assert said.startswith(name)
        (said,) = too_much_memory(usual | {name: most + 1}, {})
        assert said.startswith(name)
    absent = {name: mb for name, mb in usual.items() if name != "auditor"}
    assert list(too_much_memory(absent, first)) == ["auditor does not run"]


def test_what_hangs_is_broken_off_again_and_again():
    met, never = [], threading.Event()
    with bounded(0.05, again=0.05):
        for _ in range(2):
            try:
                # Within a check that is asked again and again, as most things are waited for.
                eventually(lambda: never.wait(5), timeout=1)
            except TooLong as exc:
                met.append(exc)
    assert len(met) == 2


class Inheriting:
    """A world whose audits find so much drift, one after the other."""

    def __init__(self, *drift):
        self.mended = 0
        self.drift = list(drift)
        self.probe = self.auditor = self
        self.settings = None

    def mend(self):
        self.mended += 1

    def wait_until_fresh(self, patience):
        return True

    def at_rest(self):
        return nullcontext()

    def audit_until_settled(self, patience):
        return SimpleNamespace(drift=self.drift.pop(0))


@pytest.mark.parametrize(
    ("drift", "repairs", "failures"),
    [
        ((0,), 0, []),
        ((7, 0), 1, []),
        ((7, 2), 1, ["2 of 7 differences were there before the fault"]),
    ],
)
def test_what_one_fault_has_left_is_healed_once_and_noted(monkeypatch, drift, repairs, failures):
    repaired, facts, said = [], {}, []
    monkeypatch.setattr(runner, "repair", lambda *about: repaired.append(about))
    runner._begin_whole(Inheriting(*drift), facts, said)
    assert (len(repaired), facts, said) == (repairs, {"inherited": drift[0]}, failures)


def test_a_fault_that_is_broken_off_has_its_row_and_is_tidied(tmp_path):
    def hangs(world, timeline):
        raise TooLong("it takes longer than 1 s")

    tidied = []
    fault = Fault("hangs", "what hangs", hangs, tidy=tidied.append)
    results = Results({}, path=tmp_path / "chaos.json")
    world = Inheriting(7)
    world.wait_until_fresh = lambda patience: False
    with pytest.raises(AssertionError, match="not fresh before"):
        runner.run_fault(world, fault, results)
    assert tidied == [world]
    (row,) = [line for line in tables(results_of(tmp_path)) if "what hangs" in line]
    assert "broken off" in row
    assert "**AssertionError: not fresh before the fault" in row
    assert row.count(" | ") == 10


def results_of(path):
    return json.loads((path / "chaos.json").read_text())


@pytest.mark.parametrize(
    ("inherited", "failures", "cells"),
    [(0, [], "| 0 of 1,000 | hold |"), (3, ["a\nb"], "| 0 of 1,000 (3 inherited) | **a b** |")],
)
def test_a_row_tells_what_was_inherited_and_what_does_not_hold(inherited, failures, cells):
    facts = dict.fromkeys(
        ("changes", "events", "repeated", "told_again", "overtaken", "restarted", "dead_letters"), 0
    )
    facts |= {"what": "w", "proof": "p", "healed_by": "itself", "broken_seconds": 1.0}
    facts |= {"fresh_after_heal": dict.fromkeys(("redis", "web", "wms")), "drift": 0, "rows": 1000}
    found = facts | {"inherited": inherited, "failures": failures}
    (row,) = [
        line
        for line in tables({"faults": {"f": found}, "figures": {}, "machine": {}})
        if line.startswith("| w ")
    ]
    assert row.endswith(cells)


def test_the_target_stands_beside_the_figure(tmp_path):
    results = Results({}, path=tmp_path / "chaos.json")
    results.figure("rolling restart", {"p99_ms": 1200}, target="p99 under 1000 ms", met=False)
    lines = list(tables(results_of(tmp_path)))
    assert "| rolling restart | p99 ms 1200 | p99 under 1000 ms | **no** |" in lines


class LookedOn:
    """A world whose auditor and guardian say this."""

    drifted = healed = passes = 3
    auditor = 7
    said = ()

    def __init__(self):
        self.spares = ["A", "B"]
        self.keys = {availability_key(sku) for sku in self.spares}

    def log_size(self, part):
        return 0

    def logged(self, part, text, since):
        return text in self.said

    def pid(self, part):
        return self.auditor

    def facts_of(self, part):
        self.passes += 1
        return {"drifted": self.drifted, "healed": self.healed, "passes": self.passes}

    def redis(self):
        return nullcontext(self)

    def delete(self, key):
        self.keys.remove(key)
        return 1

    def exists(self, key):
        return key in self.keys


def test_who_heals_must_have_said_so(monkeypatch):
    monkeypatch.setattr(onlookers, "_HEAL_SECONDS", 0.05)
    world, timeline = LookedOn(), Timeline()
    with pytest.raises(AssertionError):
        healed_by_auditor(world, timeline, lambda *_: None)
    assert timeline.proof == []
    healed_by_auditor(world, timeline, lambda *_: setattr(world, "healed", 5))
    assert timeline.proof == ["the auditor healed 2 SKUs"]


def test_an_auditor_that_is_blind_is_noticed(monkeypatch):
    monkeypatch.setattr(onlookers, "_HEAL_SECONDS", 0.05)
    world = LookedOn()
    with pytest.raises(AssertionError):
        auditor_heals(world, Timeline())
    # The next time it is another key: one SKU is healed three times, and then left to a person.
    assert world.spares == ["A"]
    # Somebody has put it back, but not the auditor.
    world.delete = lambda key: 1
    with pytest.raises(AssertionError):
        auditor_heals(world, Timeline())


def test_onlookers_must_leave_alone_what_is_well():
    """The guardian's log and the auditor's figures say what they have done."""
    world = LookedOn()
    undisturbed(world, Timeline(), lambda *_: None)
    world.said = ("restarting what failed",)
    with pytest.raises(AssertionError, match="restarting what failed"):
        undisturbed(world, Timeline(), lambda *_: None)
    world.said = ()
    with pytest.raises(AssertionError, match="drift in 1 SKUs"):
        undisturbed(world, Timeline(), lambda *_: setattr(world, "drifted", 4))
    with pytest.raises(AssertionError, match="started again"):
        undisturbed(world, Timeline(), lambda *_: setattr(world, "auditor", 8))


def test_keys_and_places_are_apart(witness):
    witness.check("web", b"SKU", 6)
    witness.check("web", b"OTHER", 4)
    witness.check("wms", b"SKU", 4)
    assert (witness.told_again, witness.backwards) == (0, [])


def test_a_fault_without_proof_fails():
    timeline = Timeline()
    timeline.prove(1, "it happened")
    with pytest.raises(NoProof, match="no evidence that it broke"):
        timeline.prove(None, "it broke")
    assert timeline.proof == ["it happened"]


def test_a_probe_that_is_seen_before_its_commit_is_answered_is_fresh(monkeypatch):
    probe = Probe("", "redis://127.0.0.1:1", ["a"])
    fresh = []

    class Connection:
        broken = False

        def execute(self, _, parameters):
            for place in ("redis", "web", "wms"):
                probe.told(place, "a", parameters[0])
            fresh.append(probe.fresh())
            probe.stop()

        def close(self):
            pass

    monkeypatch.setattr("tests.chaos.probe.psycopg.connect", lambda *_, **__: Connection())
    probe._commit()
    assert fresh == [True]


def test_every_partition_has_its_probe():
    assert choose({"A": 0, "B": 0, "C": 1}.get, ["A", "B", "C", "D"], 2) == ["A", "C"]
    with pytest.raises(AssertionError, match=r"only partitions \[0\]"):
        choose({"A": 0}.get, ["A"], 2)


def test_faults_have_names_of_their_own_and_a_short_half():
    names = [fault.name for fault in FAULTS]
    assert len(names) == len(set(names)) >= 30
    assert any(fault.short for fault in FAULTS)
    assert not all(fault.short for fault in FAULTS)


def test_who_heals_is_proved_and_onlookers_must_go_on():
    """What the table says of the auditor and the guardian is no constant."""
    by_the_auditor = [fault for fault in FAULTS if fault.healed_by == AUDITOR]
    assert by_the_auditor
    assert all(fault.run.func is healed_by_auditor for fault in by_the_auditor)
    met_by_onlookers = {
        f"{kind} {pair}"
        for kind in ("blackhole", "reset")
        for pair in (
            *(f"auditor-{server}" for server in ("kafka", "redis", "postgres")),
            *(f"guardian-{server}" for server in ("postgres", "redis", "connect")),
        )
    }
    goes_on = {fault.name for fault in FAULTS if fault.then is not None}
    assert goes_on == {"kafka away", *met_by_onlookers}


def test_the_table_goes_between_its_markers(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nwas here\n{END}\nafter\n")
    skipped = {"what": "disk | full", "healed_by": "itself", "skipped": "no root"}
    write({"faults": {"disk": skipped}, "figures": {}, "machine": {"cores": "2"}}, page)
    text = page.read_text()
    assert text.startswith(f"before\n{BEGIN}\n")
    assert text.endswith(f"{END}\nafter\n")
    assert "was here" not in text
    assert "not run here: no root" in text
    assert "cores 2" in text
    write(json.loads(json.dumps({"faults": {}, "figures": {}, "machine": {}})), page)
    assert "no root" not in page.read_text()
