from uuid import uuid4

import pytest
from confluent_kafka.admin import AdminClient

from connectors.topics import ensure_topics
from inventory.errors import Outage, TopicError
from inventory.settings import Settings
from inventory.topics import TopicSpec

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("stack")]


def silent(_: str) -> None: ...


@pytest.fixture
def specs() -> list[TopicSpec]:
    tag = uuid4().hex[:8]
    return [TopicSpec(f"made.{tag}.a", "compact"), TopicSpec(f"made.{tag}.b", "delete", 1)]


def test_missing_topics_are_made_and_shown(settings: Settings, specs: list[TopicSpec]) -> None:
    said: list[str] = []
    created = ensure_topics(settings.kafka_bootstrap, specs, 3, say=said.append)
    assert created == [spec.name for spec in specs]
    assert len(said) == 2
    shown = AdminClient({"bootstrap.servers": settings.kafka_bootstrap}).list_topics(timeout=10)
    assert [len(shown.topics[spec.name].partitions) for spec in specs] == [3, 1]


def test_again_changes_nothing(settings: Settings, specs: list[TopicSpec]) -> None:
    ensure_topics(settings.kafka_bootstrap, specs[:1], 3, say=silent)
    assert ensure_topics(settings.kafka_bootstrap, specs, 3, say=silent) == [specs[1].name]
    assert ensure_topics(settings.kafka_bootstrap, specs, 3, say=silent) == []


def test_another_number_of_partitions_is_refused(
    settings: Settings, specs: list[TopicSpec]
) -> None:
    ensure_topics(settings.kafka_bootstrap, specs, 3, say=silent)
    with pytest.raises(TopicError, match=r"3 partition\(s\) instead of 4"):
        ensure_topics(settings.kafka_bootstrap, specs, 4, say=silent)


def test_another_cleanup_policy_is_refused(settings: Settings, specs: list[TopicSpec]) -> None:
    ensure_topics(settings.kafka_bootstrap, specs, 3, say=silent)
    changed = [TopicSpec(specs[0].name, "delete")]
    with pytest.raises(TopicError, match=r"cleanup\.policy compact instead of delete"):
        ensure_topics(settings.kafka_bootstrap, changed, 3, say=silent)


def test_a_name_that_kafka_refuses_is_told(settings: Settings) -> None:
    with pytest.raises(TopicError, match="refused to create a b"):
        ensure_topics(settings.kafka_bootstrap, [TopicSpec("a b", "delete")], 1, say=silent)


def test_no_broker_is_an_outage() -> None:
    with pytest.raises(Outage, match=r"127\.0\.0\.1:1 does not answer"):
        ensure_topics("127.0.0.1:1", [TopicSpec("a", "delete")], 1, timeout=1, say=silent)
