"""A replay that is stopped, or played again, sends nothing twice and loses no outcome."""

import asyncio
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from flight_builders import SCHEDULED
from mlops_lab.events import CONTROL, OBSERVATIONS
from mlops_lab.flights.timeline import Step, Timeline
from replay_builders import DAY, NOON, Stage, flights_of


def test_a_second_replay_tells_the_outcomes_of_what_the_first_has_asked(stage: Stage) -> None:
    year = flights_of("a")
    stage.play(year, SCHEDULED)
    assert stage.service.told() == []
    stage.play(year, SCHEDULED + 4 * DAY, after=SCHEDULED)

    assert stage.service.asked() == ["a"]
    assert {item["prediction_id"] for item in stage.service.told()} == {"of-a"}


def test_who_was_answered_before_an_interruption_is_not_asked_again(stage: Stage) -> None:
    driver = stage.driver(answered={"a": ("of-a-then", NOON)})
    asyncio.run(driver.play(Timeline(flights_of("a", "b"), seed=1), SCHEDULED - DAY, [SCHEDULED + 4 * DAY]))

    assert stage.service.asked() == ["b"]
    assert {item["prediction_id"] for item in stage.service.told()} == {"of-a-then", "of-b"}


def test_a_stopped_replay_finishes_what_is_under_way_and_stays_behind_its_last_tick(stage: Stage) -> None:
    driver = stage.driver()

    class Stopping(Timeline):
        def steps(self, after: datetime, until: datetime, **how: Any) -> Iterator[Step]:
            for step in super().steps(after, until, **how):
                yield step
                if step.questions:
                    driver.stop()

    asyncio.run(driver.play(Stopping(flights_of("a", "b"), seed=1), SCHEDULED - DAY, [SCHEDULED, SCHEDULED + DAY]))

    assert driver.stopped
    assert stage.journal.ids("predict") == ["of-a"]
    assert stage.journal.cursor() is None
    assert stage.journal.unfinished()
    assert stage.bus.head(CONTROL) == 0


def test_what_was_played_before_an_interruption_is_not_lived_through_again(stage: Stage) -> None:
    """Asked at 11:00 of the day; the hour until then is not waited for a second time."""
    stage.minute_s = 60.0
    driver = stage.driver(answered={"A": ("p-1", SCHEDULED + DAY)})
    began = time.monotonic()

    asyncio.run(driver.play(Timeline(flights_of("A"), seed=1), SCHEDULED - DAY, [SCHEDULED]))

    assert driver.stopped is False
    assert time.monotonic() - began < 5


def test_two_replays_of_the_same_time_publish_each_fact_and_tick_once(stage: Stage) -> None:
    for _ in range(2):
        stage.play(flights_of("a", "b"), SCHEDULED + DAY)
    ids = [delivery.message.id for topic in (OBSERVATIONS, CONTROL) for delivery in stage.bus.read(topic, 0)]

    assert len(ids) == len(set(ids)) == 6
