"""Which bus and which store a home uses: said once, changed while nothing runs, and what readers still need goes along."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mlops_lab.bootstrap import Lab
from mlops_lab.bootstrap.chosen import FILE, Chosen, chosen, record, recorded_in
from mlops_lab.bootstrap.parts import Part, parts_of
from mlops_lab.cli import parts
from mlops_lab.cli.checks import Health
from mlops_lab.cli.checks import parts as parts_checked
from mlops_lab.cli.main import run
from mlops_lab.cli.output import Output
from mlops_lab.embedded import State, Status, Supervisor
from mlops_lab.errors import ServiceError, UsageError
from mlops_lab.events import CONTROL, FEEDBACK, OBSERVATIONS, REFERENCES, EventBus, Message
from mlops_lab.events.on_sqlite import SqliteBus
from mlops_lab.flights import messages
from mlops_lab.flights.online_usecase import FlightsOnline
from mlops_lab.flights.source import Year
from mlops_lab.pipelines.moving import carry_over
from mlops_lab.settings import Settings, load_settings
from stream_builders import MONDAY, facts_of


@pytest.fixture(scope="module")
def facts(year: Year) -> list[Message]:
    """Four days of April, in order."""
    return facts_of(year, days=4)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    return tmp_path


NOW = datetime(2026, 1, 1, tzinfo=UTC)


def all_of(bus: EventBus, topic: str) -> list[str]:
    return [each.message.id for each in bus.read(topic, 0, 100_000)]


def order(number: int) -> Message:
    return Message("TrainModel", MONDAY, "flights", {"by": "trainer", "origin": "drill", "flip_share": 0.0}, id=f"order-{number}")


def test_what_features_look_back_on_and_what_waits_goes_along(tmp_path: Path, facts: list[Message], year: Year) -> None:
    source, target = SqliteBus(tmp_path / "source.db"), SqliteBus(tmp_path / "target.db")
    aircraft = list(messages.aircraft(year.aircraft.head(50), MONDAY))
    source.publish(REFERENCES, aircraft)
    source.publish(OBSERVATIONS, facts)
    source.publish(CONTROL, [order(number) for number in range(6)])
    source.commit("watcher", CONTROL, 5)
    source.commit("trainer", CONTROL, 4)  # the slower one decides

    for _ in range(2):  # again changes nothing
        carry_over(source, target, NOW)

        assert all_of(target, REFERENCES) == [fact.id for fact in aircraft]
        assert all_of(target, CONTROL) == ["order-4", "order-5"]
        assert all_of(target, FEEDBACK) == []
        there = all_of(target, OBSERVATIONS)
        assert there == [fact.id for fact in facts][-len(there) :]  # in their order
    window = [fact for fact in facts if fact.at > facts[-1].at - timedelta(hours=36)]
    assert {fact.id for fact in window} <= set(there)
    assert len(there) < len(facts)

    before, after = FlightsOnline().row_state(), FlightsOnline().row_state()
    before.apply(facts)
    after.apply(each.message for each in target.read(OBSERVATIONS, 0, 100_000))
    day = timedelta(hours=24)
    alive = FlightsOnline().row_state()
    alive.apply(fact for fact in facts if fact.at > facts[-1].at - day + timedelta(hours=13))
    assert len(list(alive.refs())) > 500
    assert all(after.rows()[ref] == before.rows()[ref] for ref in alive.refs())


def test_events_from_the_future_do_not_shorten_what_goes_along(tmp_path: Path, facts: list[Message]) -> None:
    source, target = SqliteBus(tmp_path / "source.db"), SqliteBus(tmp_path / "target.db")
    future = [replace(facts[i], id=f"future-{i}", at=NOW + timedelta(days=900, seconds=i)) for i in range(1_500)]
    source.publish(OBSERVATIONS, [*facts, *future])

    carry_over(source, target, NOW)

    window = {fact.id for fact in facts if fact.at > facts[-1].at - timedelta(hours=36)}
    assert window <= set(all_of(target, OBSERVATIONS))


def test_what_the_other_bus_does_not_take_is_counted_and_holds_up_nothing(tmp_path: Path, facts: list[Message]) -> None:
    from mlops_lab.errors import MessageUnsendable

    class Narrow(SqliteBus):
        def publish(self, topic: str, messages: object) -> int:
            sent = list(messages)  # type: ignore[call-overload]
            if any(message.id == "large" for message in sent):
                raise MessageUnsendable.too_large(topic, "large", 2_000_000, 1_000_000)
            return super().publish(topic, sent)

    source, target = SqliteBus(tmp_path / "source.db"), Narrow(tmp_path / "target.db")
    source.publish(OBSERVATIONS, [*facts[:5], replace(facts[5], id="large"), *facts[6:10]])
    done = {each.topic: each for each in carry_over(source, target, NOW)}
    assert (done[OBSERVATIONS].taken, done[OBSERVATIONS].left) == (9, 1)
    assert all_of(target, OBSERVATIONS) == [fact.id for fact in (*facts[:5], *facts[6:10])]


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("kafka,redis", Chosen("kafka", "redis")),
        ("sqlite", Chosen("embedded", "sqlite")),
        ("redis , kafka", Chosen("kafka", "redis")),
        ("embedded", Chosen("embedded", "process")),
    ],
)
def test_parts_are_said_by_name(said: str, meant: Chosen) -> None:
    assert parts.Parts().convert(said, None, None) == meant


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("kafka", "need a store|none is chosen"),
        ("rabbit", "'rabbit' is no part"),
        ("kafka,embedded", "one bus"),
        ("sqlite,redis", "one store"),
        ("", "is no part"),
    ],
)
def test_parts_that_do_not_go_together_are_refused(home: Path, said: str, why: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["up", "--with", said]) == 2
    import re

    assert re.search(why, capsys.readouterr().err)
    assert not (home / FILE).exists()


def test_a_store_is_recorded_and_given_up_again(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        parts.use(Output(), load_settings(), Chosen("embedded", "sqlite"))
        assert recorded_in(home) == Chosen("embedded", "sqlite")
    assert capsys.readouterr().out.count("uses now") == 1
    parts.use(Output(), load_settings(), Chosen())
    assert chosen(load_settings()) == Chosen()


def test_parts_are_not_changed_under_a_running_service(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running = [Status("watcher", State.RUNNING, "", 4711, None, home / "log")]
    monkeypatch.setattr(Supervisor, "status", lambda *_: running)
    with pytest.raises(UsageError, match="watcher"):
        parts.use(Output(), load_settings(), Chosen("embedded", "sqlite"))
    assert recorded_in(home) == Chosen()
    parts.use(Output(), load_settings(), Chosen())  # what is so already may be said


def test_a_part_that_does_not_answer_changes_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_FEATURES__REDIS", "redis://:secret@127.0.0.1:1/0")
    with pytest.raises(ServiceError, match=r"127\.0\.0\.1:1") as refused:
        parts.use(Output(), load_settings(), Chosen("embedded", "redis"))
    assert "secret" not in str(refused.value)
    assert recorded_in(home) == Chosen()


def test_the_environment_comes_first_and_says_so(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_FEATURES__STORE", "process")
    with pytest.raises(UsageError, match="LAB_FEATURES__STORE"):
        parts.use(Output(), load_settings(), Chosen("embedded", "sqlite"))


def test_a_record_that_cannot_be_read_is_written_anew(home: Path) -> None:
    (home / FILE).write_text("{", encoding="utf-8")
    parts.use(Output(), load_settings(), Chosen("embedded", "sqlite"))
    assert recorded_in(home) == Chosen("embedded", "sqlite")


def test_status_and_doctor_say_where_the_parts_are_and_whether_they_answer(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [(part.kind, part.trouble) for part in parts_of(load_settings())] == [("embedded", ""), ("process", "")]
    record(home, Chosen("embedded", "redis"))
    monkeypatch.setenv("LAB_FEATURES__REDIS", "redis://:secret@127.0.0.1:1/0")
    found = parts_of(load_settings())
    assert "127.0.0.1:1" in found[1].trouble
    assert "secret" not in str(found)
    assert [check.health for check in parts_checked(found)] == [Health.OK, Health.FAIL]
    assert run(["status"]) == 0
    shown = capsys.readouterr().out
    assert "embedded" in shown
    assert found[1].trouble in shown


def test_facts_stay_behind_only_when_that_is_asked_for(
    home: Path, facts: list[Message], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the broker's part played by another file: what a real one does is in tests/services."""
    other = SqliteBus(home / "other.db")
    buses: dict[str, Callable[[], EventBus]] = {"embedded": lambda: SqliteBus(home / "bus.db"), "kafka": lambda: other}
    monkeypatch.setattr(Lab, "bus", property(lambda lab: buses[chosen(lab.settings).bus]()))
    monkeypatch.setattr("mlops_lab.bootstrap.parts.make_ready", lambda *_: None)
    SqliteBus(home / "bus.db").publish(OBSERVATIONS, facts[:100])
    settings: Settings = load_settings()

    parts.use(Output(), settings, Chosen("kafka", "sqlite"), leave_behind=True)
    assert "stays there" in capsys.readouterr().out
    assert other.head(OBSERVATIONS) == 0
    parts.use(Output(), settings, Chosen("embedded", "sqlite"))
    parts.use(Output(), settings, Chosen("kafka", "sqlite"))
    assert all_of(other, OBSERVATIONS) == [fact.id for fact in facts[:100]]
    parts.use(Output(), settings, Chosen("embedded", "sqlite"))
    assert all_of(SqliteBus(home / "bus.db"), OBSERVATIONS) == [fact.id for fact in facts[:100]]  # it has them already
    assert Part("events", "embedded", str(home / "bus.db")) in parts_of(settings)
