"""What a channel needs to read availability and to subscribe to its stock topic."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stockwire_client.aio import AsyncSubscription
    from stockwire_client.contract import (
        AlertKind,
        AlertMessage,
        AvailabilityMessage,
        LevelMessage,
        MovementKind,
        MovementMessage,
        Status,
    )
    from stockwire_client.errors import (
        ClientError,
        ConfigurationError,
        InvalidMessage,
        Refused,
        Unavailable,
    )
    from stockwire_client.messages import ALERT, AVAILABILITY, LEVEL, MOVEMENT, Change, Kind
    from stockwire_client.reader import (
        AsyncAvailabilityReader,
        AvailabilityReader,
        ChannelAvailability,
    )
    from stockwire_client.subscription import Subscription
else:
    _MODULES = {
        "aio": ("AsyncSubscription",),
        "contract": (
            "AlertKind",
            "AlertMessage",
            "AvailabilityMessage",
            "LevelMessage",
            "MovementKind",
            "MovementMessage",
            "Status",
        ),
        "errors": (
            "ClientError",
            "ConfigurationError",
            "InvalidMessage",
            "Refused",
            "Unavailable",
        ),
        "messages": ("ALERT", "AVAILABILITY", "LEVEL", "MOVEMENT", "Change", "Kind"),
        "reader": ("AsyncAvailabilityReader", "AvailabilityReader", "ChannelAvailability"),
        "subscription": ("Subscription",),
    }
    _MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

    def __getattr__(name: str) -> object:
        # Who reads only the contract or Redis does not load a Kafka client.
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


__all__ = [
    "ALERT",
    "AVAILABILITY",
    "LEVEL",
    "MOVEMENT",
    "AlertKind",
    "AlertMessage",
    "AsyncAvailabilityReader",
    "AsyncSubscription",
    "AvailabilityMessage",
    "AvailabilityReader",
    "Change",
    "ChannelAvailability",
    "ClientError",
    "ConfigurationError",
    "InvalidMessage",
    "Kind",
    "LevelMessage",
    "MovementKind",
    "MovementMessage",
    "Refused",
    "Status",
    "Subscription",
    "Unavailable",
]
