"""The demo's policy edit is taken back, whatever becomes of the demo."""

from contextlib import contextmanager

import pytest

from bench.policy_edits import PolicyEdit
from cli import demo_policy
from cli.demo_policy import UNITS, edit_meanwhile
from inventory.errors import Outage, StockwireError
from inventory.settings import Settings


class FakeEdits:
    """A channel's buffer, and who changed it to what."""

    def __init__(self, buffer):
        self.now = buffer
        self.set = []
        self.failures = {}

    def buffer(self, channel):
        return self.now

    def set_buffer(self, channel, buffer, watch=None):
        before, self.now = self.now, buffer
        self.set.append((buffer, watch))
        if failure := self.failures.get(len(self.set)):
            raise failure
        return PolicyEdit(channel, before, buffer, 0, 5_000, 1.0, 2.0)


@pytest.fixture
def edits(monkeypatch):
    fake = FakeEdits(5)

    class Opener:
        @staticmethod
        @contextmanager
        def opened(settings, patience):
            yield fake

    monkeypatch.setattr(demo_policy, "PolicyEdits", Opener)
    return fake


def meanwhile(after):
    return edit_meanwhile(Settings(), "SKU-1", after, patience=1)


def test_the_buffer_is_raised_and_set_back(edits):
    with meanwhile(after=0) as edit:
        result = edit.result()
        assert (result.before, result.after) == (5, 5 + UNITS)
        assert edit.done == result
    assert edits.set == [(5 + UNITS, "SKU-1"), (5, None)]


def test_a_demo_that_ends_before_the_edit_edits_nothing(edits):
    with meanwhile(after=60) as edit:
        assert edit.done is None
    assert edits.set == []


def test_an_edit_that_does_not_arrive_is_taken_back_and_reported(edits):
    edits.failures[1] = Outage("The policy has not arrived.")
    with pytest.raises(Outage, match="has not arrived"), meanwhile(after=0) as edit:
        edit.result()
    assert edits.now == 5


def test_an_edit_that_cannot_be_taken_back_says_what_the_buffer_was(edits):
    edits.failures[2] = Outage("Redis does not answer.")
    sentence = r"Redis does not answer\. It was 5 before"
    with pytest.raises(StockwireError, match=sentence), meanwhile(after=0) as edit:
        edit.result()
