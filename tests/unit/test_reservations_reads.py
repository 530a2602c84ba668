"""Where what may be stale is read."""

import pytest

from inventory.errors import SettingsError
from inventory.settings import load_settings


def test_without_a_replica_there_is_none():
    assert load_settings().replica_conninfo is None


def test_a_replica_is_another_server(monkeypatch):
    dsn = "postgresql://stockwire_app@127.0.0.1:15433/stockwire"
    monkeypatch.setenv("STOCKWIRE_REPLICA_DSN", dsn)
    settings = load_settings()
    assert settings.replica_conninfo == dsn
    assert settings.conninfo() != dsn


def test_what_is_no_dsn_is_named(monkeypatch):
    monkeypatch.setenv("STOCKWIRE_REPLICA_DSN", "127.0.0.1:15433")
    with pytest.raises(SettingsError, match=r"STOCKWIRE_REPLICA_DSN='127.*a server that follows"):
        load_settings()
