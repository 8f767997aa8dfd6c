"""The topics of the platform: what travels on each, what stays in order, how much of it is kept. One table, for every bus."""

from dataclasses import dataclass

OBSERVATIONS = "observations"
REFERENCES = "references"
SCHEDULE = "schedule"
CONTROL = "control"
ANSWERS = "answers"
FEEDBACK = "feedback"

DAY_S = 86_400
MAX_EVENT_BYTES = 256 * 1024
"""The largest event as it is sent. Events carry ids and facts, never objects."""


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic.

    Attributes:
        name: On a broker it has the settings' prefix before it.
        meaning: What travels on it.
        key: What its messages are keyed by, and so what stays in order.
        partitions: On a broker; the embedded log has one of each.
        retention_s: How long a broker keeps a message, in seconds of wall time since it came; None for ever.
        compacted: Only the newest message per key is kept.
        max_event_bytes: The largest event as it is sent.
    """

    name: str
    meaning: str
    key: str
    partitions: int
    retention_s: int | None
    compacted: bool = False
    max_event_bytes: int = MAX_EVENT_BYTES

    @property
    def dead(self) -> str:
        """The topic for what could not be worked on, with the reason."""
        return dead_of(self.name)


def dead_of(topic: str) -> str:
    """The topic for what could not be worked on of another."""
    return f"{topic}.dead"


TOPICS: dict[str, Topic] = {
    topic.name: topic
    for topic in (
        Topic(
            OBSERVATIONS,
            "what happens: departures, arrivals, weather",
            "aircraft, else flight; airport for weather",
            6,
            14 * DAY_S,
        ),
        Topic(REFERENCES, "slow-moving facts such as aircraft; the newest per key counts", "aircraft", 1, None, compacted=True),
        Topic(SCHEDULE, "flights as they are planned, before they are asked about", "aircraft, else flight", 6, 14 * DAY_S),
        # One partition: orders and facts of the platform follow from each other, whatever model they are about.
        Topic(
            CONTROL,
            "facts such as ModelPromoted, orders such as TrainModel",
            "model, batch or clock",
            1,
            365 * DAY_S,
        ),
        Topic(ANSWERS, "what the service answered, told when it is in the table: ids, never features", "request", 6, 30 * DAY_S),
        Topic(FEEDBACK, "outcomes, hours or days after the answer", "prediction", 6, 30 * DAY_S),
    )
}


def _dead_letters(topic: Topic) -> Topic:
    return Topic(
        topic.dead,
        f"what of '{topic.name}' could not be worked on, and why",
        "as there",
        1,  # so that people read them in the order in which they came
        90 * DAY_S,
        max_event_bytes=4 * MAX_EVENT_BYTES,  # each carries the bytes of another one
    )


ALL_TOPICS: dict[str, Topic] = TOPICS | {topic.dead: _dead_letters(topic) for topic in TOPICS.values()}
"""With their topics for dead letters."""
