"""The one tree of exceptions that Stockwire raises on purpose."""


class StockwireError(Exception):
    """Base of all. Its text is one clear sentence: what, where, what to do."""


class SettingsError(StockwireError):
    """A setting is unknown, malformed or missing."""


class StackError(StockwireError):
    """A part of the embedded stack cannot be started, reached or stopped."""


class MigrationError(StockwireError):
    """A database migration failed or could not begin; what it had done is rolled back."""


class QueryError(StockwireError):
    """A named SQL query is unknown, empty or defined twice."""


class ConnectorError(StockwireError):
    """Kafka Connect refused a connector, or its task failed."""


class TopicError(StockwireError):
    """A Kafka topic is not as `inventory.topics` says it must be."""


class PolicyError(StockwireError):
    """The channel policy is missing or contradicts itself."""


class InvalidEvent(StockwireError):  # noqa: N818 - an event's verdict, named so in the DLQ header
    """A message that can never be applied; it belongs in the dead-letter topic."""


class Outage(StockwireError):  # noqa: N818 - a state of the world rather than a fault of the caller
    """A server does not answer; the work is retried and never dead-lettered."""


class ProjectionLost(StockwireError):  # noqa: N818 - a state of the world, as an outage
    """Redis knows less than it has acknowledged; what is missing has to be replayed."""


class AuditError(StockwireError):
    """A place that is to be compared cannot be read."""


class RebuildError(StockwireError):
    """A rebuild of the projection cannot begin or go on."""


class NotFound(StockwireError):  # noqa: N818 - named as what it says
    """A SKU or a channel that was asked for does not exist."""
