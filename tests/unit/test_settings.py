"""The settings of a process's own health."""

import pytest

from inventory.errors import SettingsError
from inventory.settings import load_settings


def test_by_default_nobody_listens() -> None:
    settings = load_settings()
    assert settings.health_port is None
    assert (settings.payment_url, settings.shipping_url) == (None, None)
    assert (settings.stall_seconds, settings.fresh_seconds) == (30, 10)


def test_they_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOCKWIRE_HEALTH_PORT", "18091")
    monkeypatch.setenv("STOCKWIRE_STALL_SECONDS", "2.5")
    monkeypatch.setenv("STOCKWIRE_FRESH_SECONDS", "60")
    settings = load_settings()
    assert (settings.health_port, settings.stall_seconds, settings.fresh_seconds) == (
        18091,
        2.5,
        60,
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("STOCKWIRE_HEALTH_PORT", "0"),
        ("STOCKWIRE_HEALTH_PORT", "65536"),
        ("STOCKWIRE_HEALTH_PORT", "0.0.0.0:80"),
        ("STOCKWIRE_STALL_SECONDS", "0.5"),
        ("STOCKWIRE_STALL_SECONDS", "inf"),
        ("STOCKWIRE_FRESH_SECONDS", "soon"),
        ("STOCKWIRE_PAYMENT_URL", "ftp://127.0.0.1:18190"),
        ("STOCKWIRE_SHIPPING_URL", "127.0.0.1:18190"),
    ],
)
def test_what_is_not_accepted_is_named(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=f"{name}='{value}' is not accepted.*It takes"):
        load_settings()
