"""Labels join predictions as a function of the set of events: no order, no repetition and no lateness shows."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_lab.data import Column, Labelled, content_digest, join, outcomes_schema, predictions_schema

START = datetime(2013, 4, 1, tzinfo=UTC)
LATER = START + timedelta(days=60)
OUTCOME = (Column("late", "flag"), Column("delay_min", "number"))


class Number:
    name, kind = "distance", "number"


PREDICTIONS, OUTCOMES = predictions_schema([Number()]), outcomes_schema(OUTCOME)


def hour(number: float) -> datetime:
    return START + timedelta(hours=number)


def a_prediction(number: int, **different: Any) -> dict[str, Any]:
    usual = {
        "prediction_id": f"p{number}",
        "request_id": f"r{number}",
        "answered_at": LATER,
        "purpose": "live",
        "model": "m",
        "model_version": 1,
        "scorer_sha256": "s",
        "assignment": 1,
        "variant": "champion",
        "entity": f"e{number}",
        "moment": hour(number),
        "ages_s": "{}",
        "probability": 0.25,
        "distance": float(number),
    }
    return usual | different


def an_outcome(number: int, **different: Any) -> dict[str, Any]:
    usual = {
        "event_id": f"v{number}",
        "prediction_id": f"p{number}",
        "revision": 0,
        "at": hour(number + 5),
        "received_at": LATER,
        "late": True,
        "delay_min": 20.0,
    }
    return usual | different


def joined(predictions: list[dict[str, Any]], outcomes: list[dict[str, Any]], until: datetime = LATER) -> Labelled:
    frames = [
        pd.DataFrame(s.rows(pd.DataFrame(r, columns=list(s.names)).astype(_moments(s))).to_pandas())
        for s, r in _both(predictions, outcomes)
    ]
    return join(frames[0], frames[1], until)


def _both(predictions: list[dict[str, Any]], outcomes: list[dict[str, Any]]) -> list[tuple[Any, list[dict[str, Any]]]]:
    return [(PREDICTIONS, predictions), (OUTCOMES, outcomes)]


def _moments(schema: Any) -> dict[str, str]:
    return {column.name: "datetime64[us, UTC]" for column in schema.columns if column.type == "moment"}


def test_each_prediction_meets_its_outcome_and_the_rest_is_accounted_for() -> None:
    found = joined([a_prediction(1), a_prediction(2)], [an_outcome(1, late=False, delay_min=None), an_outcome(9)])

    assert found.rows[["prediction_id", "late", "event_id", "known_at"]].to_dict("records") == [
        {"prediction_id": "p1", "late": False, "event_id": "v1", "known_at": pd.Timestamp(hour(6))}
    ]
    assert found.pending["prediction_id"].tolist() == ["p2"]
    assert found.waiting["prediction_id"].tolist() == ["p9"]
    assert found.coverage == 0.5


def test_the_highest_revision_wins_then_the_greatest_event_id() -> None:
    outcomes = [
        an_outcome(1, event_id="z", revision=0, delay_min=1.0),
        an_outcome(1, event_id="a", revision=2, delay_min=2.0),
        an_outcome(1, event_id="b", revision=2, delay_min=3.0),
    ]
    found = joined([a_prediction(1)], outcomes)

    assert found.rows["delay_min"].tolist() == [3.0]
    assert found.conflicting == 1


def test_what_is_not_known_yet_does_not_count() -> None:
    predictions, outcomes = (
        [a_prediction(1), a_prediction(20)],
        [an_outcome(1, delay_min=1.0), an_outcome(1, event_id="w", revision=1, at=hour(30))],
    )

    early, late = joined(predictions, outcomes, hour(10)), joined(predictions, outcomes, hour(40))

    assert early.rows["delay_min"].tolist() == [1.0]
    assert (early.pending.empty, early.coverage) == (True, 1.0)
    assert late.rows["delay_min"].tolist() == [20.0]
    assert late.pending["prediction_id"].tolist() == ["p20"]
    assert joined(predictions, outcomes, hour(2)).coverage == 0.0


def test_an_outcome_that_waits_long_is_flagged_and_never_dropped() -> None:
    found = joined([], [an_outcome(1), an_outcome(2, at=LATER - timedelta(days=1))])

    assert found.waiting[["event_id", "overdue"]].to_dict("records") == [
        {"event_id": "v1", "overdue": True},
        {"event_id": "v2", "overdue": False},
    ]
    assert found.rows.empty


def test_one_answer_of_two_variants_is_labelled_twice() -> None:
    found = joined([a_prediction(1), a_prediction(1, variant="shadow", model_version=2)], [an_outcome(1)])
    assert found.rows["variant"].tolist() == ["champion", "shadow"]


def test_two_runs_with_other_random_ids_have_one_digest() -> None:
    one = joined([a_prediction(1)], [an_outcome(1)])
    two = joined([a_prediction(1, prediction_id="x", request_id="y", answered_at=START)], [an_outcome(1, prediction_id="x", event_id="z")])
    assert one.content_digest == two.content_digest
    assert one.content_digest != joined([a_prediction(1, probability=0.26)], [an_outcome(1)]).content_digest
    assert one.content_digest != joined([a_prediction(1)], [an_outcome(1, late=False)]).content_digest


events = st.builds(
    an_outcome,
    st.integers(0, 4),
    event_id=st.sampled_from("abc"),
    revision=st.integers(0, 2),
    late=st.sampled_from([True, False, None]),
    delay_min=st.sampled_from([None, 0.0, 20.0]),
    at=st.sampled_from([hour(8), hour(9)]),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(events, max_size=8), st.lists(st.integers(0, 4), max_size=5), st.data())
def test_order_repetition_and_lateness_change_nothing(outcomes: list[dict[str, Any]], numbers: list[int], data: st.DataObject) -> None:
    predictions = [a_prediction(number) for number in set(numbers)]
    again_outcomes = data.draw(st.lists(st.sampled_from(outcomes), max_size=4)) if outcomes else []
    again_predictions = data.draw(st.lists(st.sampled_from(predictions), max_size=3)) if predictions else []
    shuffle = random.Random(data.draw(st.integers(0, 99)))
    redelivered = [o | {"received_at": hour(shuffle.random() * 500)} for o in outcomes + again_outcomes]
    shuffle.shuffle(redelivered)
    repeated = predictions + again_predictions
    shuffle.shuffle(repeated)

    one, other = joined(predictions, outcomes), joined(repeated, redelivered)

    assert one.content_digest == other.content_digest
    pd.testing.assert_frame_equal(one.rows, other.rows)
    pd.testing.assert_frame_equal(one.waiting, other.waiting)
    pd.testing.assert_frame_equal(one.pending, other.pending)
    assert one.conflicting == other.conflicting
    # Against the plain statement of the rule, where the rule alone decides.
    for number in set(numbers):
        mine = [o for o in outcomes if o["prediction_id"] == f"p{number}"]
        found = one.rows[one.rows["entity"] == f"e{number}"]
        assert len(found) == bool(mine)
        if mine:
            assert (found["revision"].item(), found["event_id"].item()) == max((o["revision"], o["event_id"]) for o in mine)


@given(st.permutations(range(6)), st.booleans())
def test_a_digest_is_of_the_content(order: list[int], flip: bool) -> None:
    frame = pd.DataFrame(
        {
            "text": ["a", "b", None, "", "ab", "é"],
            "number": [1.0, -0.0, float("nan"), 2.5, 1e300, 7.0],
            "whole": [1, 2, 3, 4, 5, 6],
            "flag": [True, False, None, True, True, False],
            "moment": pd.to_datetime(["2013-01-01"] * 5 + [None], utc=True),
        }
    )
    other = frame.iloc[order][["whole", "text", "flag", "moment", "number"]].astype({"whole": "float64", "moment": "datetime64[us, UTC]"})
    assert content_digest(frame) == content_digest(other)
    changed = frame.copy()
    changed.loc[3, "text"] = None if flip else " "
    assert content_digest(changed) != content_digest(frame)


def test_values_do_not_run_into_each_other() -> None:
    assert content_digest(pd.DataFrame({"a": ["ab", "c"]})) != content_digest(pd.DataFrame({"a": ["a", "bc"]}))
    assert content_digest(pd.DataFrame({"a": ["x"], "b": ["y"]})) != content_digest(pd.DataFrame({"a": ["y"], "b": ["x"]}))
    assert content_digest(pd.DataFrame({"a": []})) != content_digest(pd.DataFrame({"b": []}))
