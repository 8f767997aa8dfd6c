"""A question about a flight is read field by field; whatever is wrong is named by its field, and nothing is repaired."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from flight_builders import BODIES, ask
from mlops_lab.flights.request import LATE_AFTER_MIN, Flight, is_late
from mlops_lab.serving.contract import Refusal

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


def wrong(item: object) -> dict[str, str]:
    with pytest.raises(Refusal) as refused:
        BODIES.predict(json.dumps(item).encode())
    assert refused.value.status == 422
    return dict(refused.value.fields)


def test_a_whole_question_is_read() -> None:
    read = ask(an_item())

    assert read.entity == "20130701T1630Z-UA1-EWR"
    assert read.moment == datetime(2013, 7, 1, 15, 30, tzinfo=UTC)
    assert read.fields == an_item() | {"scheduled_departure": datetime(2013, 7, 1, 16, 30, tzinfo=UTC), "distance_miles": 719.0}


@pytest.mark.parametrize("written", ["2013-07-01T12:30:00-04:00", "2013-07-01T22:15:00+05:45", "2013-07-01T16:30:00.000000001+00:00"])
def test_an_offset_is_turned_into_utc(written: str) -> None:
    read = ask(an_item(scheduled_departure=written))

    assert read.moment == datetime(2013, 7, 1, 15, 30, tzinfo=UTC)
    assert read.moment.tzinfo is UTC
    assert read.fields["scheduled_departure"].tzinfo is UTC


@pytest.mark.parametrize("field", ["tail_number", "distance_miles"])
@pytest.mark.parametrize("value", [None, GONE])
def test_what_may_be_unknown_may_be_null_or_left_out(field: str, value: object) -> None:
    assert ask(an_item(**{field: value})).fields.get(field) is None


@pytest.mark.parametrize("code", ["ZZ", "9E", "42"])
def test_a_carrier_that_the_model_has_not_seen_is_asked_about_all_the_same(code: str) -> None:
    assert ask(an_item(carrier=code)).fields["carrier"] == code


WRONG: dict[str, tuple[object, ...]] = {
    "flight_id": (GONE, None, "", "x" * 65, "x" * 10_000, 7, True, ["UA1"], {"id": 1}, "UA\n1", "UA1\n", "\x00", "Ü"),
    "scheduled_departure": (
        *(GONE, None, "", 0, 1372696200, "1372696200", True, [], {}, "tomorrow", "2013-07-01", "2013-07-01T16:30:00", "2013-07-01T16:30Z"),
        *("2013-02-29T16:30:00Z", "2013-04-31T16:30:00Z", "2013-13-01T16:30:00Z", "2013-07-01T24:00:00Z", "2013-07-01T16:30:60Z"),
        *("1999-12-31T23:59:59Z", "2100-01-01T00:00:00Z", "0001-01-01T00:00:00+00:00", "9999-12-31T23:59:59-12:00"),
        *("2013-07-01T16:30:00+99:00", "2013-07-01T16:30:00Z\n", " 2013-07-01T16:30:00Z", "2013-07-01T16:30:00Z" + " " * 30),
        *("20130701T163000Z", "2013-W27-1T16:30:00Z", "2013-07-01t16:30:00z", "2013-07-01 16:30:00Z", "\uff12013-07-01T16:30:00Z"),
    ),
    "carrier": (GONE, None, "", "U", "UAL", "ua", "U ", "U-", "ÜA", "UA\n", 12, True, ["UA"]),
    "origin": (GONE, None, "", "EW", "EWRX", "ewr", "E R", "EWŔ", 123, False, {"code": "EWR"}),
    "destination": (GONE, None, "", "OR", "ORDX", "ord", "OR\n", 123, ["ORD"]),
    "tail_number": ("", "N" * 11, 14228, True, ["N1"], "N\t1"),
    "distance_miles": (9.99, 12_001, -1, 0, 10**400, float("nan"), float("inf"), -float("inf"), "719", True, [719], {}),
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in WRONG.items() for value in values])
def test_a_field_that_is_missing_absurd_or_of_another_type_is_named(field: str, value: object) -> None:
    for named in (wrong(an_item(**{field: value})), wrong({"items": [an_item(**{field: value})]})):
        ((path, why),) = named.items()
        assert path.removeprefix("items[0].") == field
        assert why
        assert len(why) < 200


def test_each_field_has_its_wrong_values_here() -> None:
    assert WRONG.keys() == Flight.__annotations__.keys()


def test_all_that_is_wrong_with_a_flight_is_said_at_once() -> None:
    assert wrong(an_item(carrier=7, origin="ewr", scheduled_departure="1372696200", destination=GONE, tail="N1")) == {
        "carrier": "must be a text, not a number",
        "origin": "must match ^[A-Z0-9]{3}$, such as EWR",
        "scheduled_departure": "must be a date-time with seconds and an offset, in the years 2000 to 2099, such as 2013-07-01T13:30:00Z",
        "destination": "is missing",
        "tail": "is not known here",
    }


@pytest.mark.parametrize("stranger", ["dep_delay", "Carrier", " origin", "x" * 500])
def test_a_field_that_nobody_knows_is_named_and_cut_to_a_length_that_can_be_read(stranger: str) -> None:
    assert wrong(an_item(**{stranger: 1})) == {stranger[:100]: "is not known here"}
    assert wrong(an_item(**{stranger: 1, "carrier": GONE}))[stranger[:100]] == "is not known here"


# --- Outcomes ---------------------------------------------------------------------------------------------------------------------


def feedback(**outcome: Any) -> bytes:
    return json.dumps({"items": [{"event_id": "e1", "prediction_id": "p1", "outcome": outcome, "at": "2013-07-01T17:02:00Z"}]}).encode()


@pytest.mark.parametrize("minutes", [-1440, -5, 0, 15, 16, 4320, 12.0])
def test_an_outcome_is_whole_minutes(minutes: int) -> None:
    (read,) = BODIES.feedback(feedback(arrival_delay_min=minutes))
    assert read.outcome == {"arrival_delay_min": minutes}
    assert type(read.outcome["arrival_delay_min"]) is int


@pytest.mark.parametrize("value", [GONE, None, "12", 12.5, 1e-9, True, float("nan"), [12], -1441, 4321, 10**30])
def test_an_outcome_that_is_no_delay_is_named(value: object) -> None:
    with pytest.raises(Refusal) as refused:
        BODIES.feedback(feedback() if value is GONE else feedback(arrival_delay_min=value))
    assert [field for field, _ in refused.value.fields] == ["items[0].outcome.arrival_delay_min"]


def test_an_outcome_with_a_stranger_is_refused_by_its_name() -> None:
    with pytest.raises(Refusal) as refused:
        BODIES.feedback(feedback(arrival_delay_min=12, cancelled=False))
    assert refused.value.fields == (("items[0].outcome.cancelled", "is not known here"),)


def test_late_is_more_than_fifteen_minutes() -> None:
    assert LATE_AFTER_MIN == 15
    assert [is_late({"arrival_delay_min": minutes}) for minutes in (-20, 15, 16)] == [False, False, True]


def test_the_moment_of_a_question_is_an_hour_before_departure() -> None:
    read = ask(an_item())
    assert read.fields["scheduled_departure"] - read.moment == timedelta(hours=1)
