"""The facts of flights are what their types say, each under the key of what it happened to."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from flight_builders import a_flight, a_year, arrived, departed, messages_of, observed
from mlops_lab.bootstrap.events import event_types
from mlops_lab.errors import EventRefused
from mlops_lab.events import OBSERVATIONS, REFERENCES, SCHEDULE, Message
from mlops_lab.flights import messages
from mlops_lab.flights.facts import LISTED
from mlops_lab.flights.online_usecase import FlightsOnline

TYPES = event_types(FlightsOnline())
AT = datetime(2013, 7, 1, 12, tzinfo=UTC)


def facts(*flights: dict[str, Any]) -> list[Message]:
    return messages_of(a_year(flights))


def test_facts_of_flights_are_what_their_types_say() -> None:
    year = a_year([departed(AT, 5), arrived(AT, -3), departed(AT, 1, tail_number=None)], [observed(AT, 70.0)], [("N1", 149.0, None)])
    found = messages_of(year)

    assert len(found) == 5
    for fact in found:
        TYPES.checked(fact, REFERENCES if fact.type == LISTED else OBSERVATIONS)


def test_what_happens_to_an_aircraft_has_one_key_whoever_it_happens_to() -> None:
    left, landed = facts(departed(AT, 5, tail_number="N7"), arrived(AT, 5, tail_number="N7"))

    assert (left.key, landed.key) == ("N7", "N7")
    assert (left.subject, landed.subject) == ("EWR", "ORD")


def test_a_flight_without_an_aircraft_is_keyed_by_itself() -> None:
    assert [fact.key for fact in facts(departed(AT, 5, "f1", tail_number=None))] == ["f1"]


def test_a_planned_flight_holds_what_a_question_about_it_needs() -> None:
    [flight] = a_year([a_flight("f1")]).flights.itertuples(index=False)
    plan = messages.scheduled(flight, AT)

    assert TYPES.checked(plan, SCHEDULE, AT) is plan
    assert (plan.subject, plan.key, plan.at) == ("f1", "N1", AT)
    assert plan.data["scheduled_departure"] == "2013-07-01T16:30:00Z"


def test_the_facts_of_a_real_day_are_what_their_types_say(year: Any) -> None:
    from mlops_lab.flights.timeline import Timeline

    day = Timeline(year, seed=7).warm_up(datetime(2013, 7, 2, tzinfo=UTC))

    assert len(day) > 2000
    for fact in day:
        TYPES.checked(fact, OBSERVATIONS)


def test_a_departure_under_its_airport_is_refused() -> None:
    """Keyed as an earlier release keyed it, an aircraft's departure and arrival could overtake each other."""
    [fact] = facts(departed(AT, 5))

    with pytest.raises(EventRefused, match="key is 'EWR' and has to be 'N2', the tail number, else the flight id"):
        TYPES.checked(replace(fact, partition_key=""), OBSERVATIONS)
