"""Features served online at the moment of a question are those of training, through the real parts. The long form is `make parity`."""

import os
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from flight_builders import another_future, ask, messages_of, span
from mlops_lab.bootstrap import Lab
from mlops_lab.events import OBSERVATIONS, Message
from mlops_lab.features import FeatureRow
from mlops_lab.flights.facts import LISTED
from mlops_lab.flights.source import Year
from mlops_lab.flights.timeline import question
from parity_proof import BEYOND, IN_ORDER, START, WITHIN, Disorder, Running, parts, prove

FLIGHTS = int(os.environ.get("LAB_TEST_PARITY_FLIGHTS", "1500"))


@pytest.fixture
def lab(tmp_path: Path, kafka: str, redis_url: str, flight_data: Path) -> Iterator[Lab]:
    with parts(kafka, redis_url, tmp_path, flight_data) as made:
        yield made


@pytest.mark.parametrize("how", [IN_ORDER, WITHIN], ids=lambda how: how.name)
def test_what_came_in_time_is_served_exactly_as_training_sees_it(lab: Lab, year: Year, how: Disorder) -> None:
    proof = prove(lab, year, FLIGHTS, how)

    assert proof.flights == FLIGHTS
    assert proof.differing == 0
    if how is WITHIN:
        assert proof.twice > 0.08 * proof.published
        assert proof.out_of_order > 0.1 * proof.published


def test_whatever_happens_after_the_moment_changes_nothing_that_is_read_at_it(lab: Lab, year: Year) -> None:
    """Through Kafka, processor, Feast and Redis: an hour of another future, from the very next second on."""
    noon = START + timedelta(hours=17)
    world = span(year, START - timedelta(days=3), START + timedelta(days=2))
    wanted = world.flights[abs(world.flights["scheduled_departure"] - noon) < timedelta(hours=2)]
    running = Running(lab)

    def read(moment: datetime, facts: list[Message]) -> list[FeatureRow]:
        running.publish(OBSERVATIONS, sorted(facts, key=lambda one: one.at))
        asks = [ask(question(row))._replace(moment=moment) for row in wanted.itertuples(index=False)]
        return list(running.read(asks))

    def between(world: Year, after: datetime, until: datetime) -> list[Message]:
        return [one for one in messages_of(world) if after < one.at <= until and one.type != LISTED]

    hour = timedelta(hours=1)
    as_it_was = read(noon, between(world, noon - timedelta(hours=36), noon))
    ahead = read(noon, between(another_future(world, noon, 7), noon, noon + hour))

    assert ahead == as_it_was
    assert any(row.ages_s["origin_departures"] is not None for row in as_it_was)
    assert read(noon + hour / 2, []) != as_it_was
    running.close()


def test_each_difference_comes_of_a_fact_behind_the_bound(lab: Lab, year: Year) -> None:
    """More of them than in real life, so that there are differences to explain."""
    many = Disorder(BEYOND.name, 0.20, 0.05, 0.10, 0.01, waits=BEYOND.waits, every=BEYOND.every)
    proof = prove(lab, year, FLIGHTS // 3, many)

    assert proof.beyond > 5
    assert proof.differing > 0
    assert proof.unexplained == []
    assert proof.explained == proof.differing
