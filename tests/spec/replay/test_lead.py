"""With a stream processor between bus and service, or a broker: facts go ahead, and questions wait until they are in the rows."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from flight_builders import SCHEDULED, a_flight, a_year, departed, observed
from mlops_lab.clock import from_iso, iso
from mlops_lab.errors import BusUnreachable, FeatureStoreUnreachable, ServiceNotReady
from mlops_lab.events import CONTROL, FEEDBACK, OBSERVATIONS, REFERENCES, SCHEDULE
from mlops_lab.events.on_sqlite import SqliteBus
from mlops_lab.features.rows import Progress as Rows
from mlops_lab.flights.source import Year
from mlops_lab.flights.timeline import Timeline
from mlops_lab.pipelines.feedback import reported
from mlops_lab.replay import patience as patience_module
from mlops_lab.replay import publisher as publisher_module
from mlops_lab.replay.ahead import Prepared
from mlops_lab.replay.client import Answer
from mlops_lab.replay.driver import Progress
from mlops_lab.replay.lead import SPAN, Lead
from replay_builders import DAY, MINUTE, NOON, Stage, flights_of


class Processing:
    """A stream processor that has taken in what was there some looks ago, and a store that says so."""

    def __init__(self, bus: SqliteBus, behind: int = 0) -> None:
        self._bus = bus
        self._behind = behind
        self.said: list[int] = []
        self.away: list[Exception] = []

    def progress(self) -> Rows | None:
        if self.away:
            raise self.away.pop()
        self.said.append(self._bus.head(OBSERVATIONS))
        head = self.said[max(0, len(self.said) - 1 - self._behind)]
        return Rows({OBSERVATIONS: (head,), REFERENCES: (0,)}, 0, 0.0, "e") if head else None

    @property
    def taken_in(self) -> int:
        """The offset that rows hold now."""
        return self.said[max(0, len(self.said) - 1 - self._behind)] if self.said else 0


@dataclass
class LedStage(Stage):
    behind: int = 0
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.processing = Processing(self.bus, self.behind)

    def more(self) -> dict[str, Any]:
        return {
            "lead": Lead(self.bus, self.processing.progress),
            "reporting": lambda items: self.bus.publish(FEEDBACK, [reported("flight-delay", item) for item in items]),
            "on_trouble": self.told.append,
        }

    def play(self, year: Year, *ticks: datetime, after: datetime = SCHEDULED - DAY) -> Progress:
        timeline = Prepared(Timeline(year, seed=1), None, plans=True)
        return asyncio.run(self.driver().play(timeline, after, ticks))


@pytest.fixture
def led(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LedStage]:
    monkeypatch.setattr(patience_module, "LOOK_EVERY_S", 0.0)
    made = LedStage(tmp_path, behind=3)
    yield made
    made.journal.close()
    made.bus.close()


def busy_hours() -> Year:
    """A flight leaves, and another is asked about, every five minutes of four hours."""
    rows = []
    for number in range(48):
        at = NOON + number * 5 * MINUTE
        rows += [departed(at, number, f"left-{number}"), a_flight(f"asked-{number}", scheduled_departure=at + timedelta(hours=1))]
    return a_year(rows, [observed(NOON, 70.0)])


def test_a_question_is_asked_when_all_facts_up_to_its_moment_are_in_the_rows(led: LedStage) -> None:
    asked: list[tuple[datetime, datetime, datetime]] = []
    real = led.service.post

    async def post(path: str, body: bytes) -> Answer:
        if path == "/v1/predict" and b"probe" not in body:
            facts = [one.message.at for one in led.bus.read(OBSERVATIONS, 0)]
            moment = max(from_iso(item["scheduled_departure"]) for item in orjson.loads(body)["items"]) - timedelta(hours=1)
            asked.append((moment, max(facts[: led.processing.taken_in]), max(facts)))
        return await real(path, body)

    led.service.post = post  # type: ignore[method-assign]
    led.play(busy_hours(), SCHEDULED + timedelta(hours=6))
    moments = [moment for moment, _, _ in asked if moment <= NOON + timedelta(hours=3)]

    assert len(moments) >= 36
    assert all(taken_in >= moment for moment, taken_in, _ in asked if moment in moments)
    assert all(newest - moment <= SPAN for moment, _, newest in asked)  # rows hold an hour


def test_facts_are_waited_for_once_in_a_span_and_not_each_minute(led: LedStage) -> None:
    led.play(busy_hours(), SCHEDULED + timedelta(hours=6))

    assert led.processing.said
    assert len(led.processing.said) <= 4 * (1 + timedelta(hours=9) / SPAN)


def test_what_is_under_way_ends_before_facts_of_the_next_span_are_published(led: LedStage) -> None:
    """Or its moment would fall behind what rows still hold."""
    under_way = 0
    real_post, real_publish = led.service.post, led.bus.publish

    async def post(path: str, body: bytes) -> Answer:
        nonlocal under_way
        under_way += 1
        await asyncio.sleep(0.001)
        answer = await real_post(path, body)
        under_way -= 1
        return answer

    def publish(topic: str, messages: Any) -> int:
        assert topic != OBSERVATIONS or not under_way
        return real_publish(topic, messages)

    led.service.post, led.bus.publish = post, publish  # type: ignore[method-assign]
    led.play(busy_hours(), SCHEDULED + timedelta(hours=6))

    assert len(led.service.asked()) == 96


def test_a_flight_is_planned_on_the_bus_before_it_is_asked_about(led: LedStage) -> None:
    led.play(busy_hours(), SCHEDULED + timedelta(hours=6), after=SCHEDULED - 2 * DAY)
    plans = {one.message.subject: one.message for one in led.bus.read(SCHEDULE, 0)}

    assert set(led.service.asked()) <= plans.keys()
    assert plans["asked-7"].data["scheduled_departure"] == iso(NOON + 35 * MINUTE + timedelta(hours=1))


def test_outcomes_are_told_on_the_bus_by_the_id_of_their_answer(led: LedStage) -> None:
    led.play(flights_of("a", "b"), SCHEDULED + 4 * DAY)
    told = {one.message.data["event_id"]: one.message for one in led.bus.read(FEEDBACK, 0)}

    assert led.service.told() == []
    assert told.keys() == set(led.journal.ids("feedback")) >= {"landed-a-0", "landed-b-0"}
    assert (told["landed-a-0"].type, told["landed-a-0"].key) == ("OutcomeReported", "of-a")


def test_a_second_replay_publishes_nothing_again_that_went_ahead(led: LedStage) -> None:
    """A broker takes an id twice."""
    led.play(busy_hours(), SCHEDULED + timedelta(hours=1))
    published: list[str] = []
    real = led.bus.publish

    def publish(topic: str, messages: Any) -> int:
        messages = list(messages)
        published.extend(each.id for each in messages if topic == OBSERVATIONS)
        return real(topic, messages)

    led.bus.publish = publish  # type: ignore[method-assign]
    before = {one.message.id for one in led.bus.read(OBSERVATIONS, 0)}
    led.play(busy_hours(), SCHEDULED + timedelta(hours=6))

    assert published
    assert before.isdisjoint(published)
    assert len({one.message.id for one in led.bus.read(OBSERVATIONS, 0)}) == 49


def test_a_store_or_a_broker_that_is_away_is_said_and_waited_for(led: LedStage, monkeypatch: pytest.MonkeyPatch) -> None:
    """For as long as it takes: only who answers and does nothing runs into the end of patience."""
    monkeypatch.setattr(publisher_module, "TAKEN_IN_TIMEOUT_S", 0.2)
    down = FeatureStoreUnreachable.at("the store", "it is down")
    led.processing.away = [down, down, BusUnreachable.at("the bus", "it is down"), down]
    led.on_wait = lambda: time.sleep(0.1) if led.processing.away else None
    led.play(busy_hours(), SCHEDULED)

    assert led.told == [down.what, ""]
    assert len(led.service.asked()) > 10


def test_a_processor_that_does_nothing_is_named(led: LedStage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher_module, "TAKEN_IN_TIMEOUT_S", 0.0)
    led.processing.progress = lambda: None  # type: ignore[method-assign]

    with pytest.raises(ServiceNotReady, match="stream processor"):
        led.play(busy_hours(), SCHEDULED)


def test_a_tick_waits_for_what_waits_for_the_broker_however_long_that_is_away(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows are decided on the outcomes that were reported before; topics are sent one after the other when the broker is back."""
    monkeypatch.setattr(publisher_module, "SENT_TIMEOUT_S", 0.5)
    looks: list[int] = []

    def head(topic: str, partition: int = 0) -> int:
        if topic != CONTROL:
            return SqliteBus.head(stage.bus, topic, partition)
        looks.append(len(SqliteBus.read(stage.bus, CONTROL, 0)))
        if len(looks) < 12:  # longer than anybody waits who has a broker that answers
            raise BusUnreachable.at("the broker", "it is away")
        return SqliteBus.head(stage.bus, topic, partition)

    monkeypatch.setattr(stage.bus, "head", head)
    monkeypatch.setattr(stage.bus, "waiting", lambda: {} if len(looks) >= 14 else {FEEDBACK: 3})
    stage.play(flights_of("a"), SCHEDULED)

    assert looks == [0] * 14
    assert len(stage.bus.read(CONTROL, 0)) == 1


def test_a_broker_that_is_away_is_told_from_a_processor_that_does_not_work(tmp_path: Path) -> None:
    """While facts wait for it too: it is waited for without an end, and the processor is not."""
    bus = SqliteBus(tmp_path / "bus.db")
    bus.waiting = lambda: {OBSERVATIONS: 3, CONTROL: 1}  # type: ignore[method-assign]

    def away(topic: str, partition: int = 0) -> int:
        raise BusUnreachable.at("the broker", "it is away")

    bus.head = away  # type: ignore[method-assign]
    with pytest.raises(BusUnreachable):
        Lead(bus, lambda: None).taken_in()


def test_what_waits_in_a_spool_is_not_taken_in(tmp_path: Path) -> None:
    """The heads of the broker do not count it yet."""

    bus = SqliteBus(tmp_path / "bus.db")
    lead = Lead(bus, lambda: None)
    for waiting, taken_in in (({}, True), ({OBSERVATIONS: 3}, False), ({REFERENCES: 1}, False), ({FEEDBACK: 3}, True)):
        bus.waiting = lambda said=waiting: said  # type: ignore[method-assign, misc]
        assert lead.taken_in() is taken_in
