"""A demo's verdict and what it shows; the demo itself runs against the whole stack."""

import shlex
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from audit.report import AuditReport, PlaceReport
from bench.lane import LoadReport
from bench.latencies import LatencySummary
from bench.observers import Report
from bench.oversold import Overpromised
from bench.policy_edits import PolicyEdit
from bench.workload import WorkloadPlan
from cli.demo import (
    HOT_SHARE,
    HOT_UNITS,
    LANES,
    RATE,
    WAREHOUSES,
    Demo,
    next_commands,
    verdict,
)
from cli.demo_view import Frame, edit_line, line, milliseconds, table
from inventory.settings import Settings

FAST = LatencySummary(count=1000, p50=9.8, p90=15.0, p99=31.0, p999=60.0, max=81.25)
EDIT = PolicyEdit("web", 0, 2, 1_795_235_627_326_925, 5_000, 31.4, 480.2)
EDIT_LINE = (
    "policy edit: web buffer 0 → 2, on SKU-00001 after 31.4 ms, on all 5,000 SKUs after 480 ms"
)
SILENT = LatencySummary(0, None, None, None, None, None)


def latency(p99):
    return LatencySummary(1000, 10.0, 20.0, p99, p99, p99)


def audit(drift):
    return AuditReport(15_000, 5_000, 0, (PlaceReport("redis web", 5_000, drift, 0, ()),))


@pytest.fixture
def frame():
    return Frame(
        seconds=30,
        load=LoadReport(
            transactions=5_600,
            changes=10_000,
            seconds=10.0,
            orders_granted=2_310,
            orders_refused=12,
        ),
        report=Report({"redis": FAST, "web": FAST, "erp": SILENT}, watched={"web": 812}),
        hot_sku="SKU-00001",
        units={"redis": 810, "web": 812},
        lags={"stockwire-availability": 1_204, "stockwire-ledger": 0},
    )


def test_without_drift_and_within_a_second_the_demo_has_not_failed():
    assert verdict(audit(drift=0), {"redis": latency(1000.0), "web": FAST}) == []


def test_one_row_that_differs_fails_it():
    assert verdict(audit(drift=1), {"redis": FAST}) == ["drift: 1 of 15,000"]


def test_a_slow_percentile_fails_it():
    assert verdict(audit(drift=0), {"redis": FAST, "erp": latency(1200.0)}) == [
        "p99 of erp is 1,200 ms, over 1,000 ms"
    ]


def test_a_unit_that_was_oversold_fails_it():
    rows = [Overpromised(f"SKU-{n}", "WH-1", on_hand=3, reserved=5, held=5) for n in range(7)]
    assert verdict(audit(drift=0), {"redis": FAST}, rows[:1]) == [
        "oversold 2 units of SKU-0 in WH-1: 3 on hand, 5 reserved, 5 held"
    ]
    assert verdict(audit(drift=0), {"redis": FAST}, rows)[-1] == "oversold 2 more rows"


@pytest.mark.parametrize(
    ("on_hand", "reserved", "held", "units"),
    [(3, 5, 5, 2), (20, 20, 144, 124), (20, 3, 5, 2), (0, 1, 0, 1)],
    ids=["more than there is", "lost updates", "not set aside", "held by nobody"],
)
def test_what_is_promised_and_not_there_is_oversold(on_hand, reserved, held, units):
    assert Overpromised("S", "W", on_hand, reserved, held).units == units


def test_the_table_and_the_log_say_what_is_oversold(frame):
    console = Console(width=100)
    with console.capture() as captured:
        console.print(table(replace(frame, oversold=3)))
    assert "12 refused, 3 oversold" in captured.get()
    assert "12 refused, 3 oversold |" in line(replace(frame, oversold=3))


def test_a_channel_that_was_told_nothing_fails_it():
    assert verdict(audit(drift=0), {"erp": SILENT}) == ["nothing has arrived in erp"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (9.84, "9.8 ms"),
        (99.94, "99.9 ms"),
        (99.96, "100 ms"),
        (310.4, "310 ms"),
        (999.4, "999 ms"),
        (999.6, "1.0 s"),
        (1834.0, "1.8 s"),
    ],
)
def test_latencies_are_read_at_a_glance(value, text):
    assert milliseconds(value) == text


def test_the_table_shows_every_place_and_what_is_left(frame):
    console = Console(width=100, record=True)
    with console.capture() as captured:
        console.print(table(frame))
    shown = captured.get()
    assert "10 of 30 s: 560 commits/s, 1,000 changes/s" in shown
    rows = {cells[1]: cells for cells in (row.split() for row in shown.splitlines()) if cells[1:]}
    assert "810" in rows["Redis"]
    assert "812" in rows["web"]
    assert rows["erp"][3] == "0"
    assert "stockwire-availability 1,204, stockwire-ledger 0" in shown
    assert "orders: 2,310 granted, 12 refused, 0 oversold" in shown


def test_a_log_gets_one_plain_line(frame):
    text = line(frame)
    assert "\n" not in text
    assert text.startswith(
        "10 of 30 s: 560 commits/s, 1,000 changes/s | orders: 2,310 granted, 12 refused, "
        "0 oversold | p50/p99: redis 9.8 ms/31.0 ms"
    )
    assert text.endswith("SKU-00001 810 left")


def test_a_policy_edit_is_one_line():
    assert edit_line(EDIT, "SKU-00001") == EDIT_LINE


def test_the_table_shows_the_edit_once_everybody_knows_of_it(frame):
    console = Console(width=100)
    shown = []
    for each in (frame, replace(frame, edit=EDIT)):
        with console.capture() as captured:
            console.print(table(each))
        shown.append(captured.get())
    assert "policy edit" not in shown[0]
    assert EDIT_LINE in shown[1].splitlines()


def test_a_log_is_told_of_the_edit_once(frame, capsys):
    demo = Demo(Settings(), {}, WorkloadPlan(), Console(width=20))
    with demo._screen() as show:
        for each in (frame, replace(frame, edit=EDIT), replace(frame, edit=EDIT)):
            show(each)
    lines = capsys.readouterr().out.splitlines()
    assert [text.startswith("policy edit") for text in lines] == [False, False, True, False]
    assert lines[2] == EDIT_LINE


def test_the_commands_to_try_next_can_be_pasted_where_the_demo_ran(monkeypatch):
    binaries = Path(sys.executable).parent
    monkeypatch.chdir(binaries.parent.parent)
    settings = Settings(redis_url="redis://127.0.0.1:16399/3")
    get, tail, redis = (shlex.split(c) for c in next_commands(settings, "SKU-1"))
    relative = binaries.relative_to(binaries.parent.parent)
    assert get == [f"{relative}/stockwire", "get", "SKU-1"]
    assert tail == [f"{relative}/stockwire", "tail", "web"]
    assert redis[0] == f"{relative}/redis-cli"
    assert redis[1:7] == ["-h", "127.0.0.1", "-p", "16399", "-n", "3"]
    assert redis[7:] == ["HGETALL", "availability:{SKU-1}"]
    assert all((Path.cwd() / command[0]).exists() for command in (get, tail, redis))


def test_elsewhere_the_commands_have_their_whole_path(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert next_commands(Settings(), "S")[0].startswith(str(Path(sys.executable).parent))


def test_the_hot_sku_is_sold_out_towards_the_end_and_not_long_before():
    changes = 30 * RATE
    plan = WorkloadPlan(hot_share=HOT_SHARE, sell_out=True)
    sold = 0
    for lane in range(LANES):
        left = changes / LANES
        for transaction in plan.transactions(lane):
            left -= len(transaction.lines)
            if left < 0:
                break
            lines = [line for line in transaction.lines if line.sku == plan.hot_sku]
            sold -= sum(line.on_hand - line.reserved for line in lines)
    assert 1.0 < sold / (changes * HOT_UNITS * WAREHOUSES) < 1.15
