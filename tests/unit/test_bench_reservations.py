"""The statements that pgbench runs are ours."""

import re

import pytest

from bench.pgbench import as_script
from bench.reservations import Spread, script
from sql.queries import load_queries


def test_placeholders_become_expressions():
    text = "SELECT %(a)s::int + %(b)s, '100%%'"
    assert as_script(text, {"a": ":x", "b": "7"}) == "SELECT (:x)::int + (7), '100%'"
    with pytest.raises(KeyError):
        as_script(text, {"a": ":x"})


def test_the_script_holds_both_statements_whole():
    text = script(Spread(5_000))
    assert "%(" not in text
    for name in ("reserve_view", "reserve_take"):
        for piece in re.split(r"%\(\w+\)s", load_queries()[name]):
            assert piece in text
    assert text.startswith("\\set number random(1, 5000)")


def test_spreads():
    assert Spread(1).name == "one hot SKU"
    assert Spread(5_000).name == "5,000 SKUs"
    assert Spread(5_000).sku(7) == "BENCH-5000-00007"
