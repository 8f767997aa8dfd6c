"""After a restart the recent facts of a partition are read backwards; a bus that fails meanwhile is asked for the rest only."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from mlops_lab.errors import BusUnreachable
from mlops_lab.events import OBSERVATIONS, Delivery, Message
from mlops_lab.events.on_sqlite import SqliteBus
from mlops_lab.features.stream import Recent
from serving_builders import NOON, a_count

HOUR = timedelta(hours=1)


class Failing(SqliteBus):
    """Gives few messages at once, and every third time none."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.asked = 0
        self.given: list[int] = []

    def read(self, topic: str, after: int, limit: int = 1000, partition: int = 0) -> Sequence[Delivery]:
        self.asked += 1
        if self.asked % 3 == 0:
            raise BusUnreachable.at("the bus", "it is slow")
        found = super().read(topic, after, min(limit, 300))
        self.given += [delivery.offset for delivery in found]
        return found


def minutely(number: int) -> list[Message]:
    return [a_count(i, NOON + timedelta(minutes=i), name=f"count-{i}") for i in range(number)]


def read_out(recent: Recent) -> list[int]:
    for _ in range(100):
        try:
            return [delivery.offset for stretch in recent.read() for delivery in stretch.deliveries]
        except BusUnreachable:
            continue
    raise AssertionError("it never comes to its end")


@pytest.mark.parametrize(("window", "first"), [(500 * HOUR, 1), (20 * HOUR, 2_501), (10 * HOUR, 3_501)])
def test_chunks_are_read_backwards_each_message_once_until_one_is_older_than_the_window(
    tmp_path: Path, window: timedelta, first: int
) -> None:
    bus = Failing(tmp_path / "bus.db")
    bus.publish(OBSERVATIONS, minutely(4_500))

    found = read_out(Recent(bus, OBSERVATIONS, 4_500, window))

    assert found == list(range(first, 4_501))
    assert len(bus.given) == len(set(bus.given))


def test_what_does_not_count_is_of_any_time(tmp_path: Path) -> None:
    """A chunk that has nothing but events from the future is no reason to stop."""
    bus = Failing(tmp_path / "bus.db")
    bus.publish(OBSERVATIONS, [*minutely(100), *(a_count(i, NOON + 9_000 * HOUR, name=f"future-{i}") for i in range(1_500))])

    found = read_out(Recent(bus, OBSERVATIONS, 1_600, HOUR, counts=lambda delivery: delivery.message.at < NOON + 100 * HOUR))

    assert found == list(range(1, 1_601))
