"""Features from an online store: one reading for all requests of a turn; without the store answers go on, and everything says so."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest

from mlops_lab.clock import FixedClock
from mlops_lab.errors import FeatureStoreUnreachable
from mlops_lab.events import Message
from mlops_lab.features.rows import Progress, Reading, RowRef
from mlops_lab.flights.facts import DEPARTED, OBSERVED
from mlops_lab.flights.online_usecase import FlightsOnline
from mlops_lab.flights.transform import WEATHER
from mlops_lab.serving.call import PREDICT, Call, Reply
from mlops_lab.serving.on_prometheus import Metrics
from mlops_lab.serving.prediction_log import read_frames
from mlops_lab.serving.service import Service
from mlops_lab.serving.stored import StoredFeatures
from serving_builders import parts_about_flights

NOON = datetime(2013, 7, 1, 12, tzinfo=UTC)
WRITTEN = Progress({"observations": (2,)}, int(NOON.timestamp()), 1_700_000_000.0, "e")
NOTHING = {"weather": None, "origin_departures": None, "destination_arrivals": None, "aircraft": None}


class Store:
    """Rows in a dictionary."""

    def __init__(self) -> None:
        state = FlightsOnline().row_state()
        weather = Message(OBSERVED, NOON - timedelta(minutes=9), "EWR", dict.fromkeys(WEATHER, 7.0), id="w")
        data = {"flight_id": "f", "carrier": "UA", "origin": "EWR", "tail_number": "N1", "delay_min": 12}
        state.apply([weather, Message(DEPARTED, NOON - timedelta(minutes=3), "EWR", data, id="d")])
        self.rows = dict(state.rows())
        self.said: Progress | None = WRITTEN
        self.down: FeatureStoreUnreachable | None = None
        self.readings: list[Sequence[RowRef]] = []

    def read(self, wanted: Sequence[RowRef]) -> Reading:
        self.readings.append(list(wanted))
        if self.down is not None:
            raise self.down
        return Reading([self.rows.get(ref) for ref in wanted], self.said)

    def progress(self) -> Progress | None:
        return self.read(()).progress


class World:
    def __init__(self, directory: Path) -> None:
        self.store = Store()
        clock = FixedClock(datetime.fromtimestamp(WRITTEN.written_at_s + 5, UTC))
        self.source = StoredFeatures(self.store, FlightsOnline().from_rows, "redis://127.0.0.1:1/0", clock)
        self.parts = parts_about_flights(directory, self.source)
        self.parts.follower.step()
        self.service = Service(self.parts)
        self.log = directory / "serving" / "log"

    def ask(self, *, requests: int = 1, items: int = 1, origin: str = "EWR") -> list[Reply]:
        item = {"flight_id": "f", "scheduled_departure": "2013-07-01T13:00:00Z", "carrier": "UA", "tail_number": "N1"}
        body = orjson.dumps({"items": [item | {"origin": origin, "destination": "IAH"}] * items})
        calls = [Call(PREDICT, [(b"content-type", b"application/json")], body) for _ in range(requests)]
        self.service.work(calls)
        self.service.settle(calls)
        return [call.reply for call in calls if call.reply is not None]

    def answer(self) -> dict[str, object]:
        (reply,) = self.ask()
        assert reply.status == 200
        answer: dict[str, object] = orjson.loads(reply.body)["items"][0]
        return answer

    def ready(self) -> dict[str, object]:
        reply = self.service.condition.ready()
        assert reply.status == 200
        return orjson.loads(reply.body)  # type: ignore[no-any-return]

    def metric(self, line: str) -> float:
        for found in Metrics(self.service).text().decode().splitlines():
            if found.startswith(line + " "):
                return float(found.rpartition(" ")[2])
        raise AssertionError(f"no {line}")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def away(reason: str = "timeout", unasked: bool = False) -> FeatureStoreUnreachable:
    error = FeatureStoreUnreachable.at("redis://127.0.0.1:1/0", "no answer in time", reason)
    error.unasked = unasked
    return error


def test_an_answer_has_the_features_of_the_store_with_their_ages(world: World) -> None:
    answer = world.answer()

    assert answer["feature_ages_s"] == {"weather": 540.0, "origin_departures": 180.0, "destination_arrivals": None, "aircraft": 180.0}
    assert answer["feature_state"] == "fresh"
    ((_, frame),) = read_frames(world.log)
    (row,) = frame["rows"]
    assert (row["feature_state"], row["ages_s"]) == ("fresh", answer["feature_ages_s"])
    assert row["features"][8:20] == [7.0] * 9 + [12.0, 12.0, None]


def test_all_requests_of_a_turn_share_one_reading_and_each_row_travels_once(world: World) -> None:
    replies = world.ask(requests=20, items=3)

    assert [reply.status for reply in replies] == [200] * 20
    (wanted,) = world.store.readings
    assert len(wanted) == len(set(wanted)) == 6


def test_without_the_store_answers_go_on_and_say_that_nothing_is_known(world: World) -> None:
    world.store.down = away()

    answer = world.answer()

    assert (answer["feature_ages_s"], answer["feature_state"]) == (NOTHING, "absent")
    ((_, frame),) = read_frames(world.log)
    assert frame["rows"][0]["feature_state"] == "absent"
    said = world.ready()["dependencies"]["features"]  # type: ignore[index]
    assert (said["state"], said["store"]) == ("down", "redis://127.0.0.1:1/0")
    assert "no answer in time" in said["why"]

    world.store.down = None
    assert world.answer()["feature_state"] == "fresh"
    assert world.ready()["degraded"] == []


def test_readyz_says_how_far_the_stream_is(world: World) -> None:
    world.source.catch_up()

    assert world.ready()["dependencies"]["features"] == {  # type: ignore[index]
        "state": "ok",
        "store": "redis://127.0.0.1:1/0",
        "watermark": "2013-07-01T12:00:00Z",
        "written_at": "2023-11-14T22:13:20Z",
        "written_age_s": 5.0,
    }


def test_a_store_that_nobody_has_written_to_is_empty(world: World) -> None:
    world.store.rows, world.store.said = {}, None

    answer = world.answer()

    assert (answer["feature_ages_s"], answer["feature_state"]) == (NOTHING, "absent")
    assert world.ready()["dependencies"]["features"]["state"] == "empty"  # type: ignore[index]


def test_a_stream_that_is_behind_is_used_as_it_is_and_flagged(world: World) -> None:
    for behind_s, state in ((4200, "fresh"), (4201, "stale")):
        world.store.said = WRITTEN._replace(watermark_s=WRITTEN.watermark_s - behind_s)
        answer = world.answer()
        assert (answer["feature_state"], answer["feature_ages_s"]["weather"]) == (state, 540.0)  # type: ignore[index]


def test_readings_are_counted(world: World) -> None:
    world.ask(items=5)
    for error in (away("timeout"), away("timeout", unasked=True), away("lost")):
        world.store.down = error
        world.ask()

    assert world.metric("lab_serving_feature_read_seconds_count") == 1
    assert world.metric('lab_serving_feature_read_failures_total{reason="timeout"}') == 1
    assert world.metric('lab_serving_feature_read_failures_total{reason="down"}') == 1
    assert world.metric('lab_serving_feature_read_failures_total{reason="lost"}') == 1
    assert world.metric('lab_serving_feature_rows_total{came="found"}') == 4
    assert world.metric('lab_serving_feature_rows_total{came="missing"}') == 2 + 3 * 6
    assert world.metric('lab_serving_feature_states_total{state="fresh"}') == 5
    assert world.metric('lab_serving_feature_states_total{state="absent"}') == 3
    assert world.metric('lab_serving_dependency{name="features",state="down"}') == 1


def test_the_watermark_is_a_metric(world: World) -> None:
    world.ask()
    assert world.metric("lab_serving_features_watermark_timestamp_seconds") == WRITTEN.watermark_s
    assert world.metric("lab_serving_features_written_timestamp_seconds") == WRITTEN.written_at_s


def test_between_requests_the_store_is_asked_now_and_then(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """So /readyz knows of a store that went away while nobody asked, and requests need not."""
    now = 100.0
    monkeypatch.setattr("mlops_lab.serving.stored.monotonic", lambda: now)
    for _ in range(10):
        now += 0.25
        world.source.catch_up()

    assert len(world.store.readings) == 5
