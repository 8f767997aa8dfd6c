"""A feature is what was known one hour before departure: the same from tables and from events, and nothing of it comes from later."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from flight_builders import (
    MOMENT,
    NAMES,
    SCHEDULED,
    a_flight,
    a_year,
    another_future,
    answers_offline,
    answers_online,
    arrived,
    ask,
    departed,
    messages_of,
    observed,
    online,
    same,
    span,
)
from mlops_lab.clock import from_iso
from mlops_lab.events import Message
from mlops_lab.features import Value
from mlops_lab.flights import online as online_module
from mlops_lab.flights.online import FlightState
from mlops_lab.flights.source import Year
from mlops_lab.flights.timeline import Timeline, question
from mlops_lab.flights.transform import FEATURES, WEATHER

Read = Callable[[Year, str], dict[str, Value]]
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)


@pytest.fixture(params=["tables", "events"])
def read(request: pytest.FixtureRequest) -> Read:
    """The features of one flight of a year, by name, from either engine."""

    def read_tables(year: Year, name: str) -> dict[str, Value]:
        return dict(zip(NAMES, answers_offline(year, [name])[name], strict=True))

    def read_events(year: Year, name: str) -> dict[str, Value]:
        return dict(zip(NAMES, answers_online(online(year), year, [name])[name], strict=True))

    return read_tables if request.param == "tables" else read_events


# --- Leakage ----------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two_days(year: Year) -> Year:
    """2,000 flights around a stormy evening."""
    return span(year, datetime(2013, 6, 27, 12, tzinfo=UTC), datetime(2013, 6, 29, 18, tzinfo=UTC))


@pytest.fixture(scope="module")
def known(two_days: Year) -> dict[str, tuple[Value, ...]]:
    """The features of those flights in the world as it was."""
    return answers_offline(two_days, list(two_days.flights["flight_id"]))


@settings(max_examples=12, deadline=None, derandomize=True, phases=[Phase.generate])  # a smaller seed would explain nothing
@given(cut=st.integers(0, 1500), seed=st.integers(0, 2**32 - 1))
def test_no_fact_behind_the_prediction_moment_changes_a_feature(
    two_days: Year, known: dict[str, tuple[Value, ...]], cut: int, seed: int
) -> None:
    """Not a flight's own departure, not one second's worth of anybody else's, not the weather of the same minute."""
    moments = two_days.flights["scheduled_departure"] - HOUR
    since = moments.iloc[len(moments) // 5 + cut % (len(moments) // 2)].to_pydatetime()
    asked = list(two_days.flights["flight_id"][(moments <= since) & (moments > since - HOUR)])
    changed = another_future(two_days, since, seed)

    assert asked
    for found in (answers_offline(changed, asked), answers_online(online(changed), changed, asked)):
        assert [name for name in asked if not same(known[name], found[name])] == []


def test_a_fact_at_the_prediction_moment_is_known_and_one_second_later_is_not(read: Read) -> None:
    known = a_year([a_flight(), departed(MOMENT, 30), arrived(MOMENT, 20)], [observed(MOMENT, 80.0)])
    unknown = a_year([a_flight(), departed(MOMENT + SECOND, 30), arrived(MOMENT + SECOND, 20)], [observed(MOMENT + SECOND, 80.0)])
    names = ("origin_delay_3h_min", "carrier_delay_3h_min", "destination_delay_6h_min", "temperature_f")

    assert [read(known, "asked")[name] for name in names] == [30.0, 30.0, 20.0, 80.0]
    assert [read(unknown, "asked")[name] for name in names] == [None] * 4


def test_a_flight_says_nothing_about_itself(read: Read) -> None:
    """It leaves 20 minutes early and 3 hours late alike: nobody knows an hour before."""
    own = a_flight(departed_at=SCHEDULED, departure_delay_min=0.0, arrived_at=SCHEDULED + 3 * HOUR, arrival_delay_min=150.0)

    assert read(a_year([own]), "asked") == read(a_year([a_flight()]), "asked")


# --- Both engines agree -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def eleven_days(year: Year) -> Year:
    """10,000 flights and the day and a half before them, over the clock change of March and a snow storm."""
    return span(year, datetime(2013, 3, 2, tzinfo=UTC), datetime(2013, 3, 14, 12, tzinfo=UTC))


@pytest.fixture(scope="module")
def expected(eleven_days: Year) -> dict[str, tuple[Value, ...]]:
    from_then = datetime(2013, 3, 3, 12, tzinfo=UTC)
    asked = eleven_days.flights["flight_id"][eleven_days.flights["scheduled_departure"] - HOUR > from_then]
    return answers_offline(eleven_days, list(asked))


def in_order(facts: list[Message], seed: int) -> list[Message]:
    return facts


def shuffled(facts: list[Message], seed: int) -> list[Message]:
    return [facts[at] for at in np.random.default_rng(seed).permutation(len(facts))]


def sometimes_twice(facts: list[Message], seed: int) -> list[Message]:
    """One in fifty comes again, somewhere."""
    again = np.flatnonzero(np.random.default_rng(seed).random(len(facts)) < 0.02)
    return shuffled([*facts, *(facts[at] for at in again)], seed)


@pytest.mark.parametrize(("arrival", "hours"), [(in_order, None), (shuffled, 12), (sometimes_twice, 12)])
def test_events_give_the_features_that_the_tables_give(
    eleven_days: Year, expected: dict[str, tuple[Value, ...]], arrival: Callable[[list[Message], int], list[Message]], hours: int | None
) -> None:
    """10,000 flights asked about in the course of eleven days, to the last bit: minute by minute, or with half a day of facts at a time,
    in any order and some of them twice, while the questions of that half day are still to come."""
    assert len(expected) >= 10_000
    timeline, state = Timeline(eleven_days, seed=7), FlightState()
    state.apply(message for message in messages_of(replace(eleven_days, flights=eleven_days.flights[:0], weather=eleven_days.weather[:0])))
    first, last = datetime(2013, 3, 2, tzinfo=UTC), datetime(2013, 3, 15, tzinfo=UTC)
    steps = [step for step in timeline.steps(first, last) if step.facts or step.questions]
    blocks: dict[Any, list[Any]] = {}
    for step in steps:
        blocks.setdefault(step.at if hours is None else (step.at - first) // timedelta(hours=hours), []).append(step)
    found: dict[str, tuple[Value, ...]] = {}
    for number, block in enumerate(blocks.values()):
        state.apply(arrival([fact for step in block for fact in step.facts], number))
        for step in block:
            found |= {name: state.read(ask(_json(item))).values for name, item in step.questions if name in expected}

    assert found.keys() == expected.keys()
    wrong = Counter(
        feature for name, values in expected.items() for feature, a, b in zip(NAMES, values, found[name], strict=True) if not same([a], [b])
    )
    assert wrong == {}


def _json(item: bytes) -> dict[str, Any]:
    import orjson

    read: dict[str, Any] = orjson.loads(item)
    return read


def test_forgetting_what_is_older_than_a_day_and_a_half_changes_no_answer(eleven_days: Year, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the state stops growing."""

    def played() -> tuple[list[tuple[Value, ...]], int]:
        state, answers = FlightState(), []
        for step in Timeline(eleven_days, seed=7).steps(datetime(2013, 3, 4, tzinfo=UTC), datetime(2013, 3, 8, tzinfo=UTC)):
            state.apply(step.facts)
            answers += [state.read(ask(_json(item))).values for _, item in step.questions]
        return answers, sum(len(recent._facts) for recent in state._by_origin.values())

    forgetful, few = played()
    monkeypatch.setattr(online_module, "KEPT_S", 10**9)
    complete, many = played()

    assert forgetful == complete
    assert few < many * 0.8


def test_a_fact_of_yesterday_is_kept_although_half_a_day_of_newer_ones_came_first() -> None:
    """The longest window is a day, and facts may be half a day ahead of the question."""
    mine = {"tail_number": "N1"}
    old = [departed(MOMENT - timedelta(hours=30, minutes=i), 1, **mine) for i in range(90)]
    new = [departed(MOMENT + timedelta(minutes=8 * i), 2, **mine) for i in range(1, 91)]
    year = a_year([a_flight(), *old, departed(MOMENT - timedelta(hours=23, minutes=50), 77, **mine), *new])

    assert answers_online(online(year), year, ["asked"])["asked"][NAMES.index("aircraft_delay_min")] == 77.0


# --- Windows and what is unknown --------------------------------------------------------------------------------------------------


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


def test_a_plan_is_told_a_day_ahead_with_what_the_question_needs_and_only_where_it_is_asked_for(eleven_days: Year) -> None:
    timeline = Timeline(eleven_days, seed=7)
    monday, friday = datetime(2013, 3, 4, tzinfo=UTC), datetime(2013, 3, 8, tzinfo=UTC)
    planned = {plan.subject: plan for step in timeline.steps(monday, friday, plans=True) for plan in step.plans}
    asked = {name: _json(item) for step in timeline.steps(monday, friday) for name, item in step.questions}

    assert not any(step.plans for step in timeline.steps(monday, friday))
    both = planned.keys() & asked.keys()
    assert len(both) > 1000
    assert all(dict(planned[name].data) == asked[name] for name in both)
    assert all(plan.at == from_iso(plan.data["scheduled_departure"]) - timedelta(days=1) for plan in planned.values())
