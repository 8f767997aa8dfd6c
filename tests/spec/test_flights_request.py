"""A question about a flight is read field by field; whatever is wrong is named by its field, and nothing is repaired."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_lab.flights.online_usecase import FlightsOnline
from mlops_lab.flights.request import FIELDS, LATE_AFTER_MIN, ask, is_late, outcome
from mlops_lab.serving.contract import FieldWrong

GONE = object()


def an_item(**changes: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {
        "flight_id": "20130701T1630Z-UA1-EWR",
        "scheduled_departure": "2013-07-01T16:30:00Z",
        "carrier": "UA",
        "tail_number": "N14228",
        "origin": "EWR",
        "destination": "ORD",
        "distance_miles": 719,
    }
    return {name: value for name, value in (usual | changes).items() if value is not GONE}


def test_a_whole_question_is_read() -> None:
    read = ask(an_item())

    assert read.entity == "20130701T1630Z-UA1-EWR"
    assert read.moment == datetime(2013, 7, 1, 15, 30, tzinfo=UTC)
    assert read.fields == {
        "scheduled_departure": datetime(2013, 7, 1, 16, 30, tzinfo=UTC),
        "carrier": "UA",
        "origin": "EWR",
        "destination": "ORD",
        "tail_number": "N14228",
        "distance_miles": 719.0,
    }


def test_an_offset_is_turned_into_utc() -> None:
    read = ask(an_item(scheduled_departure="2013-07-01T12:30:00-04:00"))

    assert read.moment == datetime(2013, 7, 1, 15, 30, tzinfo=UTC)
    assert read.fields["scheduled_departure"].utcoffset() == timedelta(0)


@pytest.mark.parametrize("field", ["tail_number", "distance_miles"])
@pytest.mark.parametrize("value", [None, GONE])
def test_what_may_be_unknown_may_be_null_or_left_out(field: str, value: object) -> None:
    assert ask(an_item(**{field: value})).fields[field] is None


@pytest.mark.parametrize("code", ["ZZ", "9E", "42"])
def test_a_carrier_that_the_model_has_not_seen_is_asked_about_all_the_same(code: str) -> None:
    assert ask(an_item(carrier=code)).fields["carrier"] == code


WRONG: dict[str, tuple[object, ...]] = {
    "flight_id": (GONE, None, "", "x" * 65, 7, True, ["UA1"], {"id": 1}, "UA\n1", "\x00"),
    "scheduled_departure": (
        *(GONE, None, "", 0, 1372696200, True, [], {}, "tomorrow", "2013-07-01", "2013-07-01T16:30:00", "2013-13-01T16:30:00Z"),
        *("2013-02-29T16:30:00Z", "2013-07-01T25:30:00Z", "1999-12-31T23:59:59Z", "2100-01-01T00:00:00Z"),
        "2013-07-01T16:30:00Z" + " " * 30,
        *("0001-01-01T00:00:00+00:00", "9999-12-31T23:59:59-12:00", "2013-07-01T16:30:00+99:00"),
    ),
    "carrier": (GONE, None, "", "U", "UAL", "ua", "U ", "U-", "ÜA", 12, True, ["UA"]),
    "origin": (GONE, None, "", "EW", "EWRX", "ewr", "E R", "EWŔ", 123, False, {"code": "EWR"}),
    "destination": (GONE, None, "", "OR", "ORDX", "ord", "OR\n", 123, ["ORD"]),
    "tail_number": ("", "N" * 11, 14228, True, ["N1"], "N\t1"),
    "distance_miles": (9.99, 12_001, -1, 0, float("nan"), float("inf"), -float("inf"), "719", True, [719], {}),
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in WRONG.items() for value in values])
def test_a_field_that_is_missing_absurd_or_of_another_type_is_named(field: str, value: object) -> None:
    with pytest.raises(FieldWrong) as refused:
        ask(an_item(**{field: value}))
    assert refused.value.field == field
    assert refused.value.why


def test_each_field_has_its_wrong_values_here() -> None:
    assert WRONG.keys() == set(FIELDS)


@pytest.mark.parametrize("stranger", ["dep_delay", "Carrier", " origin", "", "x" * 500])
def test_a_field_that_nobody_knows_is_named_and_cut_to_a_length_that_can_be_read(stranger: str) -> None:
    for item in (an_item(**{stranger: 1}), an_item(**{stranger: 1, "carrier": GONE})):
        with pytest.raises(FieldWrong, match="is not a field") as refused:
            ask(item)
        assert refused.value.field == stranger[:64]


values = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(st.characters(codec="ascii"), max_size=40))


@given(st.dictionaries(st.sampled_from([*FIELDS, "other"]), values))
def test_whatever_is_asked_is_read_or_refused_by_field(item: dict[str, Any]) -> None:
    read, wrong = None, ""
    try:
        read = ask(item)
    except FieldWrong as error:
        wrong = error.field

    assert (read is None) == (wrong in {*FIELDS, "other"})
    assert read is None or read.moment == read.fields["scheduled_departure"] - timedelta(hours=1)


# --- Outcomes ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("minutes", [-1440, -5, 0, 15, 16, 4320])
def test_an_outcome_is_whole_minutes(minutes: int) -> None:
    assert outcome({"arrival_delay_min": minutes}) == {"arrival_delay_min": minutes}


@pytest.mark.parametrize("value", [GONE, None, "12", 12.0, 12.5, True, float("nan"), [12], -1441, 4321, 10**30])
def test_an_outcome_that_is_no_delay_is_named(value: object) -> None:
    with pytest.raises(FieldWrong) as refused:
        outcome({} if value is GONE else {"arrival_delay_min": value})
    assert refused.value.field == "arrival_delay_min"


def test_an_outcome_with_a_stranger_is_refused_by_its_name() -> None:
    with pytest.raises(FieldWrong) as refused:
        outcome({"arrival_delay_min": 12, "cancelled": False})
    assert refused.value.field == "cancelled"


def test_late_is_more_than_fifteen_minutes() -> None:
    assert LATE_AFTER_MIN == 15
    assert [is_late({"arrival_delay_min": minutes}) for minutes in (-20, 15, 16)] == [False, False, True]


def test_the_service_reads_questions_and_outcomes_by_the_same_rules() -> None:
    use_case = FlightsOnline()

    assert use_case.ask(an_item()) == ask(an_item())
    assert use_case.outcome({"arrival_delay_min": 3}) == {"arrival_delay_min": 3}
    with pytest.raises(FieldWrong, match="carrier"):
        use_case.ask(an_item(carrier="x"))
