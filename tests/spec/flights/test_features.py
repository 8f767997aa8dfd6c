"""A feature is what was known one hour before departure: windows, gaps, and what is unknown; the same from tables and from events."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from flight_builders import MOMENT, NAMES, Read, a_flight, a_year, arrived, ask, departed, messages_of, observed
from mlops_lab.flights.online import FlightState
from mlops_lab.flights.timeline import question
from mlops_lab.flights.transform import FEATURES, WEATHER

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)


@pytest.mark.parametrize(
    ("feature", "fact", "hours"),
    [
        ("origin_delay_3h_min", departed, 3),
        ("carrier_delay_3h_min", departed, 3),
        ("destination_delay_6h_min", arrived, 6),
        ("aircraft_delay_min", lambda at, delay: departed(at, delay, tail_number="N1"), 24),
        ("aircraft_delay_min", lambda at, delay: arrived(at, delay, tail_number="N1"), 24),
    ],
)
def test_a_window_is_open_at_its_old_end(read: Read, feature: str, fact: Callable[..., dict[str, Any]], hours: int) -> None:
    """(moment - window, moment]: what is exactly as old as the window is out of it."""
    edge = MOMENT - timedelta(hours=hours)

    assert read(a_year([a_flight(), fact(edge, 40)]), "asked")[feature] is None
    assert read(a_year([a_flight(), fact(edge + SECOND, 40)]), "asked")[feature] == 40.0


def test_weather_of_six_hours_ago_is_no_weather(read: Read) -> None:
    edge = MOMENT - 6 * HOUR
    old, young = a_year([a_flight()], [observed(edge, 60.0)]), a_year([a_flight()], [observed(edge + SECOND, 60.0)])

    assert [read(old, "asked")[name] for name in WEATHER] == [None] * len(WEATHER)
    assert read(young, "asked")["temperature_f"] == 60.0


def test_a_mean_is_over_the_flights_of_its_airport_or_airline(read: Read) -> None:
    year = a_year(
        [
            a_flight(),
            departed(MOMENT, 10),
            departed(MOMENT, 50, carrier="AA"),
            departed(MOMENT, 500, origin="LGA"),
            arrived(MOMENT, 7),
            arrived(MOMENT - HOUR, 8),
            arrived(MOMENT, 700, destination="MIA"),
        ]
    )
    found = read(year, "asked")

    assert found["origin_delay_3h_min"] == 30.0
    assert found["carrier_delay_3h_min"] == 10.0
    assert found["destination_delay_6h_min"] == 7.5


def test_two_flights_of_one_minute_with_one_delay_are_two(read: Read) -> None:
    year = a_year([a_flight(), departed(MOMENT, 10, "a"), departed(MOMENT, 10, "b"), departed(MOMENT, 40, "c")])

    assert read(year, "asked")["origin_delay_3h_min"] == 20.0


def test_the_last_delay_of_an_aircraft_is_that_of_its_newest_fact(read: Read) -> None:
    """An arrival counts as later than a departure of the same minute, and other aircraft do not count."""
    mine = {"tail_number": "N1"}
    facts = [departed(MOMENT - 2 * HOUR, 5, **mine), departed(MOMENT - MINUTE, 95, **mine), arrived(MOMENT - MINUTE, 25, **mine)]

    assert read(a_year([a_flight(), *facts, departed(MOMENT, 99)]), "asked")["aircraft_delay_min"] == 25.0


def test_an_aircraft_that_is_not_in_the_register_has_no_seats_and_no_age(read: Read) -> None:
    year = a_year([a_flight(), a_flight("known", tail_number="N9")], aircraft=[("N9", 150, 2001), ("N8", 20, None)])

    assert (read(year, "asked")["seats"], read(year, "asked")["aircraft_age_years"]) == (None, None)
    assert (read(year, "known")["seats"], read(year, "known")["aircraft_age_years"]) == (150.0, 12.0)


def test_an_aircraft_of_unknown_age_still_has_seats(read: Read) -> None:
    year = a_year([a_flight(tail_number="N8")], aircraft=[("N8", 20, None)])

    assert (read(year, "asked")["seats"], read(year, "asked")["aircraft_age_years"]) == (20.0, None)


def test_flights_without_a_tail_number_share_no_aircraft(read: Read) -> None:
    year = a_year([a_flight(tail_number=None), departed(MOMENT, 60, tail_number=None)])

    assert read(year, "asked")["aircraft_delay_min"] is None
    assert read(year, "asked")["origin_delay_3h_min"] == 60.0


def test_without_any_fact_only_the_schedule_is_known(read: Read) -> None:
    found = read(a_year([a_flight()]), "asked")
    known = {name: value for name, value in found.items() if value is not None}

    assert known == {
        "carrier": "UA",
        "origin": "EWR",
        "destination": "ORD",
        "minute_of_day": 12 * 60 + 30.0,  # New York's clock in July is four hours behind UTC
        "weekday": 0.0,
        "distance_miles": 719.0,
    }


def test_a_gap_in_the_newest_observation_is_a_gap(read: Read) -> None:
    """An older value is not put in its place: the observation is taken as it is."""
    year = a_year([a_flight()], [observed(MOMENT - HOUR, 70.0), observed(MOMENT, 80.0, wind_gust_mph=None)])
    found = read(year, "asked")

    assert (found["temperature_f"], found["wind_gust_mph"]) == (80.0, None)


def test_the_weather_of_another_airport_is_not_mine(read: Read) -> None:
    assert read(a_year([a_flight()], [observed(MOMENT, 80.0, origin="JFK")]), "asked")["temperature_f"] is None


def test_hour_and_weekday_are_those_of_new_york(read: Read) -> None:
    """Sunday evening there is Monday in UTC; and the clock change moves the hour."""
    before, after = datetime(2013, 3, 10, 3, 15, tzinfo=UTC), datetime(2013, 3, 11, 3, 15, tzinfo=UTC)
    year = a_year([a_flight("before", scheduled_departure=before), a_flight("after", scheduled_departure=after)])

    assert [(read(year, name)["minute_of_day"], read(year, name)["weekday"]) for name in ("before", "after")] == [
        (22 * 60 + 15.0, 5.0),
        (23 * 60 + 15.0, 6.0),
    ]


def test_an_answer_says_how_old_what_it_used_is() -> None:
    state = FlightState()
    year = a_year([a_flight(), departed(MOMENT - 30 * MINUTE, 5), departed(MOMENT - HOUR, 5)], [observed(MOMENT - 10 * MINUTE, 70.0)])
    state.apply(messages_of(year))
    row = next(year.flights[year.flights["flight_id"] == "asked"].itertuples(index=False))

    assert state.read(ask(question(row))).ages_s == {
        "weather": 600.0,
        "origin_departures": 1800.0,
        "destination_arrivals": None,
        "aircraft": None,
    }


def test_features_stand_in_the_order_of_their_names(read: Read) -> None:
    """The names, once each; what the model reads is decided here and nowhere else."""
    assert len(set(NAMES)) == len(NAMES) == len(FEATURES) == 21
    assert all(feature.unit or feature.kind == "category" for feature in FEATURES)
    assert list(read(a_year([a_flight()]), "asked")) == list(NAMES)
    assert all(one != other for one, other in pairwise(NAMES))
