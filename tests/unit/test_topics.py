import re

from inventory import topics


def test_names_are_unique_and_kafka_takes_them() -> None:
    names = [spec.name for spec in topics.ALL_TOPICS]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"[A-Za-z0-9._-]{1,249}", name) for name in names)


def test_what_readers_rebuild_from_is_compacted() -> None:
    cleanup = {spec.name: spec.cleanup for spec in topics.ALL_TOPICS}
    assert cleanup[topics.STOCK] == cleanup[topics.CHANNEL] == "compact"
    assert cleanup[topics.CHANNEL_SKU] == "compact"
    assert cleanup[topics.channel_topic("erp")] == cleanup[topics.DEAD_LETTER] == "delete"


def test_a_topics_settings_hold_its_cleanup_policy() -> None:
    for spec in topics.ALL_TOPICS:
        assert spec.settings()["cleanup.policy"] == spec.cleanup
