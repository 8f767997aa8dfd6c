"""The real processor on a real Kafka and Redis, killed while events come twice, out of order, late, and among them poison.

Who checks reads only what was sent and what the store and the dead letters hold.
"""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from mlops_lab.bootstrap import Lab
from mlops_lab.bootstrap.broker import broker_of
from mlops_lab.bootstrap.feature_progress import feature_progress
from mlops_lab.bootstrap.feature_store import feature_store
from mlops_lab.clock import WallClock
from mlops_lab.events import OBSERVATIONS, REFERENCES, EventBus, Message
from mlops_lab.events.dead import dead_letters
from mlops_lab.events.on_kafka_topics import ensure_topics
from mlops_lab.features.feast_layout import Layout
from mlops_lab.features.in_memory import MemoryRows
from mlops_lab.features.on_redis import RedisRows
from mlops_lab.features.processor import Processor
from mlops_lab.features.redis_address import Address
from mlops_lab.features.rows import RowRef
from mlops_lab.features.shard import Shard
from mlops_lab.flights.online_usecase import FlightsOnline
from mlops_lab.flights.source import Year
from mlops_lab.pipelines.feature_status import read_status, status_file
from mlops_lab.settings import load_settings
from stream_builders import aircraft_of, facts_of, in_disorder, rows_of

KILLS = 3
"""LAB_TEST_KILLS names another number."""
SEED = 7


@pytest.fixture
def lab(tmp_path: Path, kafka: str, topic_prefix: str, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """A home on topics and a database of its own."""
    said = {
        "LAB_HOME": str(tmp_path),
        "LAB_EVENTS__BUS": "kafka",
        "LAB_EVENTS__KAFKA": kafka,
        "LAB_EVENTS__PREFIX": topic_prefix,
        "LAB_FEATURES__STORE": "redis",
        "LAB_FEATURES__REDIS": redis_url,
    }
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    found = Lab(load_settings())
    ensure_topics(broker_of(found.settings.events))
    yield found
    found.bus.close()  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def facts(year: Year) -> list[Message]:
    return facts_of(year, days=2)


@pytest.fixture(scope="module")
def aircraft(year: Year) -> list[Message]:
    return aircraft_of(year)


@contextmanager
def the_process(lab: Lab) -> Iterator["subprocess.Popen[bytes]"]:
    """The service `features`; whatever is left of it at the end is killed."""
    with (lab.home / "features.log").open("ab") as log:
        process = subprocess.Popen([sys.executable, "-W", "ignore", "-m", "mlops_lab.pipelines.feature_worker"], stderr=log)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def until(holds: Callable[[], object], process: "subprocess.Popen[bytes]") -> None:
    """Wait; pytest's own timeout ends what never comes."""
    while not holds():
        assert process.poll() is None, "the processor ended by itself"
        time.sleep(0.02)


def committed(bus: EventBus) -> int:
    return sum(bus.committed("features", OBSERVATIONS, number) for number in range(bus.partitions(OBSERVATIONS)))


def all_in(bus: EventBus) -> bool:
    return all(
        bus.committed("features", topic, number) == bus.head(topic, number)
        for topic in (OBSERVATIONS, REFERENCES)
        for number in range(bus.partitions(topic))
    )


def in_store(lab: Lab, wanted: Sequence[RowRef]) -> dict[RowRef, bytes]:
    address = Address.of(lab.settings.features.redis)
    with closing(RedisRows(address, Layout(FlightsOnline().row_views), deadline_s=30)) as reader:
        found = reader.read(wanted)
    assert found.unusable == 0
    return {ref: row for ref, row in zip(wanted, found.rows, strict=True) if row is not None}


def rows_in(url: str) -> int:
    """How many rows Redis holds at all: the keys of Feast's, not counting what stands beside them."""
    with redis.Redis.from_url(url) as server:
        return sum(1 for key in server.scan_iter(count=1000) if not key.startswith(b"lab:"))


def test_rows_are_those_of_what_was_sent_whenever_it_is_killed(
    lab: Lab, facts: list[Message], aircraft: list[Message], addresses: dict[str, str]
) -> None:
    kills = int(addresses.get("LAB_TEST_KILLS", KILLS))
    chance = random.Random(SEED)
    sent = in_disorder(facts, SEED, new_ids=False)  # a broker takes the same id twice
    poison = replace(facts[700], id="poison", data={**facts[700].data, "delay_min": "soon"})
    sent.insert(len(sent) // 2, poison)
    lab.bus.publish(REFERENCES, aircraft)
    parts = [sent[len(sent) * n // (kills + 1) : len(sent) * (n + 1) // (kills + 1)] for n in range(kills + 1)]
    killed_at = []
    for part in parts[:-1]:
        with the_process(lab) as process:
            before = committed(lab.bus)
            half = len(part) // 2
            lab.bus.publish(OBSERVATIONS, part[:half])
            until(lambda before=before: committed(lab.bus) > before, process)  # type: ignore[misc]  # it works now
            lab.bus.publish(OBSERVATIONS, part[half:])
            time.sleep(chance.uniform(0, 0.5))
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed_at.append(committed(lab.bus))
    with the_process(lab) as process:
        lab.bus.publish(OBSERVATIONS, parts[-1])
        until(lambda: all_in(lab.bus), process)
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0

    wanted = rows_of(facts, aircraft)
    assert in_store(lab, list(wanted)) == wanted
    assert rows_in(lab.settings.features.redis) == distinct_keys(wanted)
    letters = [each.letter for each in dead_letters(lab.bus, OBSERVATIONS)]
    assert {letter.event().id for letter in letters} == {"poison"}
    assert {letter.tries for letter in letters} == {3}
    assert len(killed_at) == kills


def distinct_keys(rows: dict[RowRef, bytes]) -> int:
    """Feast keeps the views of one entity under one key: those of an airport, and those of an aircraft, are one key each."""
    joins = {view.name: view.join_keys for view in FlightsOnline().row_views}
    return len({(joins[ref.view], ref.key) for ref in rows})


def test_redis_that_comes_back_empty_is_filled_within_the_time_it_says(lab: Lab, facts: list[Message]) -> None:
    lab.bus.publish(OBSERVATIONS, facts)
    wanted = rows_of(facts)
    with the_process(lab) as process:
        until(lambda: all_in(lab.bus), process)
        with redis.Redis.from_url(lab.settings.features.redis) as server:
            server.flushdb()
        progress = feature_progress(lab.settings)
        until(progress.read, process)
        progress.close()
        assert in_store(lab, list(wanted)) == wanted
        until(lambda: (said := read_status(status_file(lab.home, "features"))) and said.rewritten == 1, process)
    said = read_status(status_file(lab.home, "features"))
    assert said is not None
    assert said.rewritten_rows == len(wanted)
    assert said.rewritten_ms > 0


def test_two_shards_and_a_replay_from_the_start_give_the_rows_of_one(lab: Lab, facts: list[Message]) -> None:
    lab.bus.publish(OBSERVATIONS, in_disorder(facts, SEED, new_ids=False))
    with closing(feature_store(lab.settings)) as store:
        run(Processor(lab.bus, lab.event_types, lab.use_case.row_state, store, WallClock()))
    wanted = rows_of(facts)
    assert in_store(lab, list(wanted)) == wanted

    with redis.Redis.from_url(lab.settings.features.redis) as server:
        server.flushdb()
    for number in range(lab.bus.partitions(OBSERVATIONS)):
        lab.bus.commit("features", OBSERVATIONS, 0, number)
    with closing(feature_store(lab.settings)) as store:
        run(Processor(lab.bus, lab.event_types, lab.use_case.row_state, store, WallClock()))
    assert in_store(lab, list(wanted)) == wanted

    halves = [MemoryRows(), MemoryRows()]
    for number, half in enumerate(halves):
        run(Processor(lab.bus, lab.event_types, lab.use_case.row_state, half, WallClock(), shard=Shard(number, 2)))
    assert not halves[0].held.keys() & halves[1].held.keys()
    assert halves[0].held | halves[1].held == wanted


def run(processor: Processor) -> None:
    while processor.step():
        pass
