"""Rows pushed through Feast into a real Redis: read back by Feast and by the reader that does without it."""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pandas as pd
import pytest
import redis

from feast_builders import answers_of_feast
from mlops_lab.bootstrap.feature_store import feature_store
from mlops_lab.errors import FeatureStoreUnreachable
from mlops_lab.features.feast_layout import Layout
from mlops_lab.features.on_feast import FeastStore
from mlops_lab.features.on_feast_services import register
from mlops_lab.features.on_redis import RedisRows
from mlops_lab.features.redis_address import Address
from mlops_lab.features.rows import Progress, RowRef
from mlops_lab.flights import messages
from mlops_lab.flights.online_usecase import FlightsOnline
from mlops_lab.flights.request import ask
from mlops_lab.flights.source import Year
from mlops_lab.flights.timeline import Timeline
from mlops_lab.settings import FeatureSettings, Settings

SAID = Progress({"observations": (3, 4)}, 1_364_800_000, 1.7e9, "epoch-1")
EWR, UNITED, NOBODY = RowRef("origin_departures", ("EWR",)), RowRef("carrier_departures", ("EWR", "UA")), RowRef("aircraft_delays", ("",))


@pytest.fixture
def store(tmp_path: Path, features_on_redis: FeatureSettings) -> Iterator[FeastStore]:
    with closing(feature_store(Settings(home=tmp_path, features=features_on_redis))) as opened:
        yield opened


def test_rows_are_read_alike_by_feast_and_without_it(store: FeastStore, features_on_redis: FeatureSettings) -> None:
    rows = {EWR: b"\x00\xff one", UNITED: b"two", NOBODY: b"\x00"}
    wanted = [*rows, RowRef("origin_departures", ("JFK",))]

    store.write(rows, SAID)

    with closing(RedisRows(Address.of(features_on_redis.redis), Layout(FlightsOnline().row_views), deadline_s=5)) as reader:
        assert reader.read(wanted) == ([*rows.values(), None], SAID, 0)
    assert store.rows(wanted) == [*rows.values(), None]
    assert store.progress() == SAID


def test_features_are_answered_alike_by_feast_and_without_it(store: FeastStore, features_on_redis: FeatureSettings, year: Year) -> None:
    """Through the feature service of a version, from Redis: every feature of each flight, exactly."""
    use_case, start, end = FlightsOnline(), datetime(2013, 4, 2, tzinfo=UTC), datetime(2013, 4, 3, 15, tzinfo=UTC)
    state, timeline = use_case.row_state(), Timeline(year, seed=7)
    state.apply([*messages.aircraft(year.aircraft, start), *(fact for step in timeline.steps(start, end) for fact in step.facts)])
    asks = [ask(orjson.loads(body) | {"scheduled_departure": end + timedelta(hours=1)}) for _, body in last_questions(timeline, end)]
    store.write(state.rows(), SAID)
    register(store, {1: ([feature.name for feature in use_case.features], "digest")})

    told = answers_of_feast(store, "flight-delay-v1", asks)

    with closing(RedisRows(Address.of(features_on_redis.redis), Layout(use_case.row_views), deadline_s=5)) as reader:
        assert told == [row.values for row in use_case.from_rows(reader).read_many(asks)]
    assert len(told) > 30
    assert sum(value is not None for values in told for value in values) > 15 * len(told)


def last_questions(timeline: Timeline, end: datetime) -> list[tuple[str, bytes]]:
    return [question for step in timeline.steps(end - timedelta(hours=1), end) for question in step.questions]


def test_what_is_written_last_stands_although_the_clock_was_put_back(store: FeastStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Feast's Redis store leaves out rows that are not newer than what is there, unless it is told not to."""
    store.write({EWR: b"first"}, SAID)
    store.close()
    monkeypatch.setattr(FeastStore, "_now", lambda _: pd.Timestamp("2001-01-01", tz="UTC"))

    store.write({EWR: b"second"}, SAID)

    assert store.rows([EWR]) == [b"second"]


def test_a_redis_that_was_emptied_is_written_to_again(store: FeastStore, redis_url: str) -> None:
    store.write({EWR: b"lost"}, SAID)
    with redis.Redis.from_url(redis_url) as server:
        server.flushdb()
    assert store.progress() is None

    store.write({UNITED: b"kept"}, SAID)

    assert store.rows([EWR, UNITED]) == [None, b"kept"]


def test_a_redis_that_is_down_is_said_to_be(tmp_path: Path) -> None:
    nobody = FeatureSettings(store="redis", redis="redis://127.0.0.1:1/0")
    with pytest.raises(FeatureStoreUnreachable, match=r"127\.0\.0\.1:1"):
        feature_store(Settings(home=tmp_path, features=nobody)).write({EWR: b"row"}, SAID)
