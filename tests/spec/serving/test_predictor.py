"""Answers: by one model from start to end, with the facts published so far, and logged before they are given."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from mlops_lab.errors import BusUnreachable, ModelError, NoChampion, ScorerRefused
from mlops_lab.events import OBSERVATIONS, REFERENCES
from mlops_lab.events.in_time import BusInTime
from mlops_lab.features import Ask
from mlops_lab.features.view import FeatureRow
from mlops_lab.serving.answered import Answered, Question
from mlops_lab.serving.facts import FactStream
from mlops_lab.serving.loaded import LineUp, picker, try_out
from mlops_lab.serving.prediction_log import encode, read_frames
from serving_builders import FEATURES, NOON, Flat, Replica, a_count, a_replica, an_item, ask


def answered(replica: Replica, asks: Sequence[Ask], request_id: str = "r", **more: Any) -> Answered:
    """What the predictor makes of one request. Raises what it has instead of an answer."""
    (result,) = replica.parts.predictor.answer([Question(asks, request_id, **more)])
    if isinstance(result, Exception):
        raise result
    return result


def test_an_answer_comes_with_the_frame_that_says_what_was_scored(tmp_path: Path) -> None:
    replica = a_replica(tmp_path, 0.3)
    replica.follow()
    replica.bus.publish(OBSERVATIONS, [a_count(8, NOON - timedelta(minutes=2))])

    result = answered(replica, [ask(an_item()), ask(an_item("exit", id="q2"))], "r-1", purpose="probe")

    answers = result.answers
    replica.parts.log.write([encode(result.frame)])
    ((_, frame),) = read_frames(tmp_path / "serving/log")
    rows = frame.pop("rows")
    assert frame == {
        "kind": "predictions",
        "request_id": "r-1",
        "model": "queue-length",
        "model_version": 1,
        "scorer_sha256": replica.books.digests[1],
        "assignment": 1,
        "variant": "champion",
        "purpose": "probe",
        "answered_at": "2013-04-01T12:00:00Z",
    }
    assert rows == [
        {
            "prediction_id": answers[0]["prediction_id"],
            "entity": "q1",
            "moment": "2013-04-01T12:00:00Z",
            "features": [12.0, "gate", 8.0],
            "ages_s": {"counts": 120.0},
            "feature_state": "fresh",
            "probability": 0.3,
        },
        {
            "prediction_id": answers[1]["prediction_id"],
            "entity": "q2",
            "moment": "2013-04-01T12:00:00Z",
            "features": [12.0, "exit", None],
            "ages_s": {"counts": None},
            "feature_state": "fresh",
            "probability": 0.3,
        },
    ]
    assert answers[0] == {
        "prediction_id": answers[0]["prediction_id"],
        "probability": 0.3,
        "model_version": 1,
        "variant": "champion",
        "feature_ages_s": {"counts": 120.0},
        "feature_state": "fresh",
    }


def test_prediction_ids_never_repeat(tmp_path: Path) -> None:
    replica = a_replica(tmp_path)
    replica.follow()
    answers = [answer for _ in range(50) for answer in answered(replica, [ask(an_item())] * 20, "the same request").answers]

    assert len({answer["prediction_id"] for answer in answers}) == 1000


def test_without_a_model_there_is_no_answer(tmp_path: Path) -> None:
    with pytest.raises(NoChampion):
        answered(a_replica(tmp_path, None), [ask(an_item())])


@pytest.mark.parametrize("nonsense", [float("nan"), 1.5, -0.1])
@pytest.mark.parametrize("rows", [1, 40])
def test_what_is_no_probability_is_neither_answered_nor_logged(tmp_path: Path, nonsense: float, rows: int) -> None:
    replica = a_replica(tmp_path)
    replica.follow()
    slot = replica.parts.slot
    slot.lineup = LineUp(replace(slot.require().champion, scorer=Flat(nonsense)))

    with pytest.raises(ModelError, match="no probability"):
        answered(replica, [ask(an_item())] * rows)


def test_moments_are_logged_in_utc_whatever_zone_the_use_case_kept(tmp_path: Path) -> None:
    from zoneinfo import ZoneInfo

    replica = a_replica(tmp_path)
    replica.follow()
    asked = ask(an_item())._replace(moment=NOON.astimezone(ZoneInfo("America/New_York")))

    frame = orjson.loads(encode(answered(replica, [asked]).frame)[8:])

    assert frame["rows"][0]["moment"] == "2013-04-01T12:00:00Z"


def test_requests_that_come_in_together_are_answered_each_for_itself(tmp_path: Path) -> None:
    """One look at the bus and one evaluation for all; what is wrong with one of them is its own affair, and so is its size."""
    replica = a_replica(tmp_path, 0.3)
    replica.follow()
    read = replica.online.read

    def read_unless_broken(asked: Ask) -> FeatureRow:
        if asked.entity == "broken":
            raise RuntimeError("no features for this one")
        return read(asked)

    replica.online.read = read_unless_broken  # type: ignore[method-assign]
    sizes = (1, 3, 40, 2)
    questions = [Question([ask(an_item(id=f"q{n}"))] * n, f"r{n}") for n in sizes]
    questions.insert(1, Question([ask(an_item(id="broken"))], "r-broken"))

    results = replica.parts.predictor.answer(questions)

    assert isinstance(results.pop(1), RuntimeError)
    found = [result for result in results if isinstance(result, Answered)]
    assert [len(result.answers) for result in found] == list(sizes)
    assert [result.frame["request_id"] for result in found] == [f"r{n}" for n in sizes]


def test_a_scorer_that_reads_some_features_in_its_own_order_gets_them() -> None:
    pick = picker(("hour", "place", "seen"), (FEATURES[2], FEATURES[0]))
    one = picker(("hour", "place", "seen"), (FEATURES[1],))

    assert pick is not None
    assert pick((12.0, "gate", 8.0)) == (8.0, 12.0)
    assert one is not None
    assert one((12.0, "gate", 8.0)) == ("gate",)
    assert picker(("hour", "place", "seen"), FEATURES) is None
    with pytest.raises(ScorerRefused, match="'seen'"):
        picker(("hour", "place"), FEATURES)


def test_a_scorer_that_fails_on_nothing_known_is_refused_before_it_meets_a_request() -> None:
    try_out(Flat(0.4))
    with pytest.raises(ScorerRefused, match="no probabilities"):
        try_out(Flat(float("nan")))
    with pytest.raises(ScorerRefused, match="fails on a row"):
        try_out(Flat("half"))  # type: ignore[arg-type]


class TestFacts:
    def test_facts_published_before_a_request_count_in_its_answer(self, tmp_path: Path) -> None:
        replica = a_replica(tmp_path)
        for people in (3, 5):
            replica.bus.publish(OBSERVATIONS, [a_count(people, NOON - timedelta(minutes=10 - people))])
            replica.parts.source.catch_up()
            assert replica.online.read(ask(an_item())).values[2] == people

    def test_a_start_reads_all_references_and_the_window_of_observations(self, tmp_path: Path) -> None:
        replica = a_replica(tmp_path)
        days = [NOON - timedelta(hours=h) for h in range(100, -1, -1)]
        replica.bus.publish(REFERENCES, [a_count(1, datetime(2001, 1, 1, tzinfo=UTC), "mast")])
        replica.bus.publish(OBSERVATIONS, [a_count(i, at, "gate", f"{i}-{k}") for i, at in enumerate(days) for k in range(50)])

        facts = FactStream(replica.bus, replica.online, window=timedelta(hours=36))
        facts.catch_up()

        moments = {at for at, _ in replica.online.facts["gate"].values()}
        assert moments >= set(days[-37:])
        assert min(moments) > days[0]
        assert "mast" in replica.online.facts

    def test_a_reference_is_known_no_later_than_an_observation_that_was_published_after_it(self, tmp_path: Path) -> None:
        """References are rarely looked at; who publishes one and then an observation may rely on both."""
        replica = a_replica(tmp_path)
        replica.parts.source.catch_up()
        replica.bus.publish(REFERENCES, [a_count(1, datetime(2001, 1, 1, tzinfo=UTC), "mast")])
        replica.bus.publish(OBSERVATIONS, [a_count(2)])

        replica.parts.source.catch_up()

        assert "mast" in replica.online.facts

    def test_more_facts_than_one_reading_takes_are_all_taken(self, tmp_path: Path) -> None:
        replica = a_replica(tmp_path)
        replica.parts.source.catch_up()
        replica.bus.publish(OBSERVATIONS, [a_count(i, NOON, name=str(i)) for i in range(3500)])

        replica.parts.source.catch_up()

        assert len(replica.online.facts["gate"]) == 3500

    def test_a_fact_that_cannot_be_understood_does_not_stop_the_others(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        replica = a_replica(tmp_path)
        broken = replace(a_count(2), data={"people": "many"})
        replica.bus.publish(OBSERVATIONS, [a_count(1), broken, a_count(3)])

        replica.parts.source.catch_up()

        assert len(replica.online.facts["gate"]) == 2
        assert replica.parts.source.refused == 1
        assert "serving.fact_refused" in caplog.text

    def test_while_the_bus_is_down_answers_go_on_and_catch_up_afterwards(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        replica = a_replica(tmp_path)
        replica.follow()
        monkeypatch.setattr("mlops_lab.serving.facts._RETRY_AFTER_S", 0.0)
        with monkeypatch.context() as patch:
            patch.setattr(BusInTime, "read", _down)
            assert answered(replica, [ask(an_item())])
            assert replica.parts.source.trouble

        replica.bus.publish(OBSERVATIONS, [a_count(4)])
        (answer,) = answered(replica, [ask(an_item())]).answers

        assert not replica.parts.source.trouble
        assert answer["feature_ages_s"] == {"counts": 0.0}


def _down(*_: object) -> None:
    raise BusUnreachable.at("the tests' bus", "it is down")
