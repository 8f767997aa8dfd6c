"""Nothing of a feature comes from behind the moment of the question."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from flight_builders import (
    MOMENT,
    SCHEDULED,
    Read,
    a_flight,
    a_year,
    another_future,
    answers_offline,
    answers_online,
    arrived,
    departed,
    observed,
    online,
    same,
    span,
)
from mlops_lab.features import Value
from mlops_lab.flights.source import Year

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)


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
