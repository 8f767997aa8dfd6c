"""A home that goes over to a real Kafka and a real Redis, and back."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlops_lab.bootstrap import Lab
from mlops_lab.bootstrap.chosen import Chosen, chosen, record
from mlops_lab.bootstrap.parts import features_part, parts_of
from mlops_lab.cli import parts
from mlops_lab.cli.output import Output
from mlops_lab.errors import ServiceError
from mlops_lab.events import OBSERVATIONS, EventBus, Message
from mlops_lab.events.reading import everything
from mlops_lab.flights.source import Year
from mlops_lab.pipelines.stack_home import prepare
from mlops_lab.settings import load_settings
from own_redis import OwnRedis
from stream_builders import facts_of


@pytest.fixture
def home(tmp_path: Path, kafka: str, topic_prefix: str, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in {
        "LAB_HOME": str(tmp_path),
        "LAB_EVENTS__KAFKA": kafka,
        "LAB_EVENTS__PREFIX": topic_prefix,
        "LAB_FEATURES__REDIS": redis_url,
    }.items():
        monkeypatch.setenv(name, value)
    return tmp_path


def ids(bus: EventBus) -> set[str]:
    return {each.message.id for number in range(bus.partitions(OBSERVATIONS)) for each in everything(bus, OBSERVATIONS, number)}


def test_topics_are_made_and_the_facts_of_the_window_go_along(home: Path, year: Year, capsys: pytest.CaptureFixture[str]) -> None:
    facts = facts_of(year, days=1)
    Lab(load_settings()).bus.publish(OBSERVATIONS, facts)

    parts.use(Output(), load_settings(), Chosen("kafka", "redis"))
    assert "topics made" in capsys.readouterr().out
    assert chosen(load_settings()) == Chosen("kafka", "redis")
    assert ids(Lab(load_settings()).bus) == {fact.id for fact in facts}
    assert [part.trouble for part in parts_of(load_settings())] == ["", ""]

    parts.use(Output(), load_settings(), Chosen("kafka", "redis"))  # again
    assert "all topics are there" in capsys.readouterr().out
    assert sum(Lab(load_settings()).bus.head(OBSERVATIONS, number) for number in range(6)) == len(facts)

    later = Message("WeatherObserved", facts[-1].at, facts[0].subject, facts[0].data, id="later")
    Lab(load_settings()).bus.publish(OBSERVATIONS, [later])
    parts.use(Output(), load_settings(), Chosen())
    assert ids(Lab(load_settings()).bus) == {*(fact.id for fact in facts), "later"}
    assert chosen(load_settings()) == Chosen()


def test_a_stack_that_changes_its_profile_takes_the_facts_along(
    home: Path, year: Year, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its settings say the parts, and the job that prepares the home finds that they are others than before."""

    def prepared(bus: str, store: str) -> Lab:
        monkeypatch.setenv("LAB_EVENTS__BUS", bus)
        monkeypatch.setenv("LAB_FEATURES__STORE", store)
        prepare(Lab(load_settings()))
        return Lab(load_settings())

    facts = facts_of(year, days=1)
    prepared("embedded", "process").bus.publish(OBSERVATIONS, facts)
    capsys.readouterr()

    streaming = prepared("kafka", "redis")

    assert ids(streaming.bus) == {fact.id for fact in facts}
    assert f"observations: {len(facts)} events taken along from the former bus (embedded), 0 left" in capsys.readouterr().out
    prepared("kafka", "redis")
    assert "taken along" not in capsys.readouterr().out
    later = Message("WeatherObserved", facts[-1].at, facts[0].subject, facts[0].data, id="later")
    streaming.bus.publish(OBSERVATIONS, [later])
    assert ids(prepared("embedded", "process").bus) == {*(fact.id for fact in facts), "later"}


def test_topics_that_are_missing_are_told_by_status(home: Path) -> None:
    record(home, Chosen("kafka", "redis"))
    assert "topics are missing" in parts_of(load_settings())[0].trouble


def test_a_broker_that_does_not_answer_changes_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_EVENTS__KAFKA", "127.0.0.1:1")
    monkeypatch.setenv("LAB_EVENTS__TIMEOUT_S", "1")
    with pytest.raises(ServiceError, match=r"127\.0\.0\.1:1"):
        parts.use(Output(), load_settings(), Chosen("kafka", "redis"))
    assert chosen(load_settings()) == Chosen()


@pytest.fixture
def own_redis(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OwnRedis]:
    server = OwnRedis()
    server.start()
    monkeypatch.setenv("LAB_FEATURES__REDIS", server.url)
    yield server
    server.end()


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_a_redis_that_drops_rows_is_refused_with_what_to_set(home: Path, own_redis: OwnRedis, policy: str) -> None:
    with own_redis.client() as client:
        client.config_set("maxmemory-policy", policy)
    with pytest.raises(ServiceError, match=rf"drops rows .*\(maxmemory-policy {policy}\)") as caught:
        parts.use(Output(), load_settings(), Chosen("kafka", "redis"))
    assert chosen(load_settings()) == Chosen()

    wanted = re.findall("`redis-cli (.*?)`", caught.value.next_step)
    with own_redis.client() as client:
        client.execute_command(*wanted[0].split())
    parts.use(Output(), load_settings(), Chosen("kafka", "redis"))
    assert chosen(load_settings()) == Chosen("kafka", "redis")


def test_a_user_who_may_not_ask_for_the_policy_may_work(home: Path, own_redis: OwnRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    with own_redis.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.acl_setuser("reader", enabled=True, passwords=["+secret"], keys=["*"], commands=["+get", "+select", "+ping"])
    monkeypatch.setenv("LAB_FEATURES__REDIS", own_redis.url.replace("redis://", "redis://reader@"))
    (home / "password").write_text("secret")
    monkeypatch.setenv("LAB_FEATURES__REDIS_PASSWORD_FILE", str(home / "password"))

    record(home, Chosen("kafka", "redis"))

    assert features_part(load_settings()).trouble == ""
