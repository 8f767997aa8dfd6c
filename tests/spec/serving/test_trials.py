"""Versions on trial: a canary answers its share and never fails a request; a shadow scores what was answered and is never seen."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from mlops_lab.serving.call import Call
from mlops_lab.serving.loaded import LineUp, share_of
from mlops_lab.serving.prediction_log import read_frames
from mlops_lab.serving.service import Service
from mlops_lab.serving.shadow import BACKLOG_ROWS
from serving_builders import Flat, Replica, a_replica, an_item


class Raising(Flat):
    """A scorer that fails."""

    def score_rows(self, rows: Any) -> list[float]:
        raise ArithmeticError("no answer today")


@pytest.fixture
def replica(tmp_path: Path) -> Replica:
    made = a_replica(tmp_path, 0.3)
    made.follow()
    return made


def on_trial(replica: Replica, *, canary: Flat | None = None, permille: int = 0, shadow: Flat | None = None, sample: int = 0) -> None:
    champion = replica.parts.slot.require().champion
    other = [None if each is None else replace(champion, version=n, scorer=each) for n, each in ((7, canary), (8, shadow))]
    replica.parts.slot.lineup = LineUp(champion, other[0], permille, other[1], sample)


def answers(replica: Replica, count: int, rows: int = 1) -> list[dict[str, Any]]:
    """What so many requests are answered, each with an id of its own."""
    service = Service(replica.parts)
    body = orjson.dumps({"items": [an_item()] * rows})
    calls = [Call("predict", [(b"content-type", b"application/json"), (b"x-request-id", b"r%d" % i)], body) for i in range(count)]
    for at in range(0, count, 8):
        service.work(calls[at : at + 8])
        service.settle(calls[at : at + 8])
    assert {call.reply.status for call in calls if call.reply} == {200}
    return [orjson.loads(call.reply.body) for call in calls if call.reply]


def frames(replica: Replica, kind: str = "predictions") -> list[dict[str, Any]]:
    return [frame for _, frame in read_frames(replica.directory / "serving/log") if frame["kind"] == kind]


class TestCanary:
    @pytest.mark.parametrize("permille", [0, 1, 100, 500, 1000])
    def test_it_answers_its_share_and_always_the_same_requests(self, replica: Replica, permille: int) -> None:
        on_trial(replica, canary=Flat(0.6), permille=permille)

        first, again = ({answer["request_id"]: answer["items"][0]["variant"] for answer in answers(replica, 2000)} for _ in range(2))

        assert first == again
        share = Counter(first.values())["canary"] / 2000
        assert share == pytest.approx(permille / 1000, abs=0.03)
        assert permille not in (0, 1000) or share == permille / 1000

    def test_a_share_that_grows_keeps_the_requests_it_had_and_the_next_trial_meets_others(self) -> None:
        few = {i for i in range(5000) if share_of(7, f"r{i}") < 50}
        more = {i for i in range(5000) if share_of(7, f"r{i}") < 100}
        others = {i for i in range(5000) if share_of(8, f"r{i}") < 100}

        assert few < more
        assert len(more & others) < len(more) / 4

    @pytest.mark.parametrize("rows", [1, 3, 40])
    def test_both_versions_are_scored_on_the_same_rows_and_the_log_has_both(self, replica: Replica, rows: int) -> None:
        on_trial(replica, canary=Flat(0.6), permille=1000)

        (answer, *_) = answers(replica, 20, rows)

        assert {(item["variant"], item["model_version"], item["probability"]) for item in answer["items"]} == {("canary", 7, 0.6)}
        for frame in frames(replica):
            assert (frame["variant"], frame["model_version"]) == ("canary", 7)
            trial = frame["trial"]
            assert (trial["canary"], trial["champion"], trial["error"]) == (7, 1, None)
            assert trial["champion_probabilities"] == [0.3] * rows
            assert min(trial["canary_us"], trial["champion_us"]) > 0

    @pytest.mark.parametrize("broken", [Raising(0.6), Flat(float("nan")), Flat(1.5)])
    def test_where_it_fails_the_champion_answers_and_the_log_says_why(self, replica: Replica, broken: Flat) -> None:
        on_trial(replica, canary=broken, permille=500)

        given = answers(replica, 100)

        assert {(item["variant"], item["probability"]) for answer in given for item in answer["items"]} == {("champion", 0.3)}
        failed = [frame["trial"] for frame in frames(replica) if "trial" in frame]
        assert 30 < len(failed) < 70
        assert all(trial["error"] and trial["canary_us"] is None for trial in failed)

    def test_a_champion_that_fails_is_not_helped_out_by_its_canary(self, replica: Replica) -> None:
        on_trial(replica, canary=Flat(0.6), permille=1000)
        lineup = replica.parts.slot.require()
        replica.parts.slot.lineup = replace(lineup, champion=replace(lineup.champion, scorer=Flat(float("nan"))))

        call = Call("predict", [(b"content-type", b"application/json")], orjson.dumps(an_item()))

        assert Service(replica.parts).answer(call).status == 500
        assert frames(replica) == []


class TestShadow:
    def test_it_scores_its_sample_after_the_answers_and_is_never_given(self, replica: Replica) -> None:
        on_trial(replica, shadow=Flat(0.8), sample=300)

        given = answers(replica, 400, rows=2)
        assert frames(replica, "shadow") == []
        service = Service(replica.parts)
        while replica.parts.predictor.shadow.waits:
            service.shadow()

        assert {item["probability"] for answer in given for item in answer["items"]} == {0.3}
        scored = [(frame, row) for frame in frames(replica, "shadow") for row in frame["rows"]]
        ids = [row["prediction_id"] for _, row in scored]
        answered = {item["prediction_id"] for answer in given for item in answer["items"]}
        assert len(set(ids)) == len(ids)
        assert set(ids) < answered
        assert len(ids) == pytest.approx(0.3 * 800, rel=0.25)
        assert {(frame["model_version"], row["probability"], row["champion_probability"]) for frame, row in scored} == {(8, 0.8, 0.3)}

    def test_a_shadow_that_fails_is_said_in_the_log_and_nowhere_else(self, replica: Replica) -> None:
        on_trial(replica, shadow=Raising(0.8), sample=1000)

        answers(replica, 8)
        Service(replica.parts).shadow()

        (frame,) = frames(replica, "shadow")
        assert "no answer today" in frame["error"]
        assert frame["rows"] == []

    def test_a_shadow_that_is_behind_leaves_requests_out_and_counts_them(self, replica: Replica) -> None:
        on_trial(replica, shadow=Flat(0.8), sample=1000)

        answers(replica, BACKLOG_ROWS + 16)

        assert replica.parts.predictor.shadow.left_out == 16

    @pytest.mark.parametrize("rows", [1, 300])
    def test_a_slice_of_its_work_is_small_however_large_a_request_was(self, replica: Replica, rows: int) -> None:
        """What waits for the shadow is worked on between requests, a little at a time."""
        on_trial(replica, shadow=Flat(0.8), sample=1000)
        answers(replica, 300 // rows, rows)

        slices = 0
        while frame := replica.parts.predictor.shadow.score():
            assert len(frame["rows"]) <= 64  # type: ignore[arg-type]
            slices += 1
        assert slices == 5


def test_the_trace_a_request_belongs_to_is_in_the_log(replica: Replica) -> None:
    trace = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    for header in (trace, b"00-00000000000000000000000000000000-00f067aa0ba902b7-01", b"nonsense"):
        headers = [(b"content-type", b"application/json"), (b"traceparent", header)]
        assert Service(replica.parts).answer(Call("predict", headers, orjson.dumps(an_item()))).status == 200

    assert [frame.get("trace") for frame in frames(replica)] == [trace.decode(), None, None]
