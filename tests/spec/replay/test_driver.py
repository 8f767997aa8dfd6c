"""The replay plays the year as production would: facts, then questions, then outcomes by the id of their answer."""

import asyncio
import gc

import pytest

from flight_builders import SCHEDULED, a_flight, a_year, arrived, departed, observed
from mlops_lab.errors import ServiceNotReady
from mlops_lab.events import OBSERVATIONS
from mlops_lab.replay.client import Answer
from replay_builders import DAY, MINUTE, NOON, Service, Stage, flights_of


def test_questions_are_asked_once_and_outcomes_told_by_the_id_of_their_answer(stage: Stage) -> None:
    progress = stage.play(flights_of("a", "b", "c"), SCHEDULED + 4 * DAY)
    told = {item["event_id"]: (item["prediction_id"], item["outcome"]) for item in stage.service.told() if item["revision"] == 0}

    assert sorted(stage.service.asked()) == ["a", "b", "c"]
    assert told.keys() == {"landed-a-0", "landed-b-0", "landed-c-0"}
    assert told["landed-a-0"] == ("of-a", {"arrival_delay_min": 20})
    assert (progress.questions, progress.failed, progress.at) == (3, 0, SCHEDULED + 4 * DAY)
    assert stage.journal.ids("predict") == ["of-a", "of-b", "of-c"]


def test_a_service_that_does_not_answer_ends_the_replay_where_it_stands(stage: Stage) -> None:
    """Each question would fail at once and the week would be over in a moment; so it ends, and the week is not counted as played."""
    stage.service.status = 0

    with pytest.raises(ServiceNotReady, match="does not answer"):
        stage.play(flights_of("a", "b", "c"), SCHEDULED + 4 * DAY)

    assert stage.journal.cursor() is None
    assert stage.journal.unfinished()
    assert stage.journal.tally("predict").failed >= 1


def test_several_requests_without_an_answer_are_one_error(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    async def nobody(path: str, body: bytes) -> Answer:
        await asyncio.sleep(0.01)
        return Answer(0, b"refused", 10)

    stage.service.post = nobody  # type: ignore[method-assign]
    with pytest.raises(ServiceNotReady, match="refused"):
        stage.play(flights_of("A", "B", "C"), SCHEDULED)
    gc.collect()

    assert caplog.records == []


def test_the_facts_of_a_minute_are_on_the_bus_before_its_questions(stage: Stage) -> None:
    """The weather of the very minute of the question is there when it is asked."""
    same_minute = a_year([a_flight("a"), departed(NOON, 5), arrived(NOON, 9)], [observed(NOON, 70.0), observed(NOON + MINUTE, 80.0)])
    stage.play(same_minute, SCHEDULED)
    on_the_bus = next(head for path, said, head in stage.service.sent if path == "/v1/predict" and said["items"][0]["flight_id"] == "a")

    assert on_the_bus == 3
    assert all(delivery.message.at <= NOON for delivery in stage.bus.read(OBSERVATIONS, 0, limit=on_the_bus))


def test_probes_are_marked_as_such_and_count_as_no_question(stage: Stage) -> None:
    looks = iter([False, False, True])
    stage.settled = lambda: next(looks)
    progress = stage.play(flights_of("a"), SCHEDULED)
    probes = [said for path, said, _ in stage.service.sent if said.get("purpose") == "probe"]

    assert probes
    assert all(said["items"][0]["flight_id"] == "a" for said in probes)
    assert progress.questions == 1
    assert stage.journal.ids("predict") == ["of-a"]


def test_a_failed_question_is_recorded_and_its_outcome_has_nobody_to_go_to(stage: Stage) -> None:
    stage.service.status = 503
    progress = stage.play(flights_of("a", "b"), SCHEDULED + 4 * DAY)

    assert stage.service.told() == []
    assert len(stage.service.asked()) == 2  # each once: nothing is tried again
    assert progress.failed >= 2
    assert stage.journal.tally("predict").failed == 2
    assert stage.journal.failures(1)[0][2:] == (503, "no")


@pytest.mark.parametrize("body", [b"not json", b"{}", b'{"items":[{}]}'])
def test_an_answer_that_cannot_be_read_stops_the_replay(stage: Stage, body: bytes) -> None:
    """It would be an answer without an id: unnoticed, its outcome would be lost."""
    stage.service.body = body

    with pytest.raises((ValueError, KeyError)):
        stage.play(flights_of("a", "b"), SCHEDULED + DAY)


def test_an_outcome_waits_for_the_answer_that_is_still_under_way(stage: Stage) -> None:
    class Slow(Service):
        async def post(self, path: str, body: bytes) -> Answer:
            if path == "/v1/predict":
                await asyncio.sleep(0.02)
            return await super().post(path, body)

    stage.service = Slow(stage.bus)
    landed = NOON + MINUTE
    year = a_year([a_flight("a", departed_at=NOON, departure_delay_min=0.0, arrived_at=landed, arrival_delay_min=-5.0)])
    stage.play(year, SCHEDULED + 4 * DAY)

    assert {item["prediction_id"] for item in stage.service.told()} == {"of-a"}
