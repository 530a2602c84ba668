"""What the commands of the write side read and print."""

from datetime import UTC, datetime
from uuid import UUID

import pytest
import structlog
from typer.testing import CliRunner

from cli.main import app
from cli.quiet import quietly
from cli.reserve import as_dict, describe, parse_line
from reservations.basket import Closed, Granted, Held, Line, Reason, Refused, Short

ID = UUID("6f6c7f0e-1111-4222-8333-444455556666")
UNTIL = datetime(2026, 11, 21, 12, 30, tzinfo=UTC)


def test_a_line_is_a_sku_and_a_number():
    assert parse_line("SKU-1=2") == Line("SKU-1", 2)
    assert parse_line("A=B=3") == Line("A=B", 3)


@pytest.mark.parametrize("wrong", ["SKU-1", "=2", "SKU-1=", "SKU-1=-2", "SKU-1=two", "SKU-1=²"])
def test_what_is_no_line_is_refused(wrong):
    with pytest.raises(ValueError, match="write it as"):
        parse_line(wrong)


@pytest.mark.parametrize(
    "lines", [["SKU-1"], ["SKU-1=0"], ["SKU-1=1", "SKU-1=2"], ["SKU-1=1000001"]]
)
def test_a_wrong_basket_is_a_wrong_option(lines):
    result = CliRunner().invoke(app, ["reserve", *lines, "--reference", "ORD-1"])
    assert result.exit_code == 2


def test_a_flash_sale_is_not_made_by_hand():
    result = CliRunner().invoke(
        app, ["reserve", "S=1", "--reference", "ORD-1", "--strategy", "redis"]
    )
    assert result.exit_code == 2


def test_answers_to_read():
    granted = Granted(ID, (Held("S", "W", 2, 8),), UNTIL)
    assert describe(granted).splitlines() == [
        f"{ID}  held until 21 Nov 12:30:00 UTC",
        "  2 × S in W  version 8",
    ]
    assert describe(Closed(ID, {("S", "W"): 10})).splitlines() == [
        f"{ID}  done",
        "  S in W  version 10",
    ]
    assert describe(Refused(Reason.INSUFFICIENT, (Short("S", 5, 3),))).splitlines() == [
        "refused: insufficient",
        "  S: 5 wanted, 3 there",
    ]


def test_answers_for_programs():
    assert as_dict(Granted(ID, (Held("S", "W", 2, 8),), UNTIL)) == {
        "granted": True,
        "reservation": str(ID),
        "held": [{"sku": "S", "warehouse": "W", "quantity": 2, "version": 8}],
        "held_until": "2026-11-21T12:30:00+00:00",
    }
    assert as_dict(Closed(ID, {("S", "W"): 10})) == {
        "done": True,
        "reservation": str(ID),
        "versions": [{"sku": "S", "warehouse": "W", "version": 10}],
    }
    assert as_dict(Refused(Reason.EXPIRED)) == {"refused": "expired", "short": []}


def test_logs_stay_out_of_the_answer(capsys):
    before = structlog.get_config()
    with quietly():
        log = structlog.stdlib.get_logger("any")
        log.info("a counter was built")
        log.warning("Redis is away", seconds=2)
    assert structlog.get_config() == before
    said = capsys.readouterr()
    assert said.out == ""
    assert "Redis is away" in said.err
    assert "a counter was built" not in said.err
