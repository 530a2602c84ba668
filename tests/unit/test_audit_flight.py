"""In which order it is asked how far everybody is: any other order proves nothing."""

from audit.continuous.flight import Flight


class Recorded:
    """Answers as it is told, and keeps the questions."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.beat = 0
        self.late: str | None = None
        self.reading: str | None = None

    def beat_us(self) -> int:
        return self.beat

    def captured(self):
        self.asked.append("captured")
        return {("stock", 0): 7}

    def behind(self, ends) -> str | None:
        assert ends == {("stock", 0): 7}
        self.asked.append("behind")
        return self.late

    def published(self, topics):
        self.asked.append("published")
        return dict.fromkeys([(topic, 0) for topic in topics], 3)

    def unread(self, ends) -> str | None:
        assert ends == {("web", 0): 3}
        self.asked.append("unread")
        return self.reading


def test_each_end_is_taken_only_when_what_is_before_has_arrived():
    pipeline = Recorded()
    flight = Flight(pipeline, 100, ["web"])
    pipeline.beat = 100  # not later
    assert not flight.landed()
    assert pipeline.asked == []
    pipeline.beat, pipeline.late = 101, "the ledger"
    assert not flight.landed()
    assert not flight.landed()
    assert pipeline.asked == ["captured", "behind", "behind"], "the end stays that of then"
    assert flight.waits_for == "the ledger"
    pipeline.late, pipeline.reading = None, "web"
    assert not flight.landed()
    assert pipeline.asked[3:] == ["behind", "published", "unread"]
    pipeline.reading = None
    assert flight.landed()
    assert flight.landed()
