"""What one audit of everything leaves out."""

from contextlib import ExitStack

import orjson
import pytest
from redis import Redis

from audit import auditor
from audit.auditor import Auditor
from audit.compare import ProjectionSnapshot, StockSnapshot
from audit.report import Key


class Told(Redis):
    """A Redis with nothing but the marks."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def hgetall(self, name: object) -> dict[bytes, bytes]:  # type: ignore[override]
        return {b"0": orjson.dumps(dict.fromkeys(self.names, "digest"))}


@pytest.mark.parametrize(("marked", "drift"), [(("shop", "web"), 0), (("web",), 1)])
def test_a_channel_that_is_still_being_taken_out_is_no_drift(
    monkeypatch: pytest.MonkeyPatch, marked: tuple[str, ...], drift: int
):
    left = ProjectionSnapshot({}, {}, {}, {"shop": {Key("S"): {"shop": "7"}}})
    monkeypatch.setattr(auditor, "read_stock", lambda _: StockSnapshot({}, ()))
    monkeypatch.setattr(auditor, "read_projection", lambda *_: left)
    found = Auditor("", Told(*marked), "", ExitStack()).audit()
    assert found.drift == drift
