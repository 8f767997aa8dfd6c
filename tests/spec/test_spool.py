"""Publishers go on while the broker is down: nothing is lost, nothing overtakes, and all of it arrives by itself."""

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mlops_lab.errors import BusUnreachable, TopicMissing
from mlops_lab.events import CONTROL, OBSERVATIONS, Message
from mlops_lab.events import spool as spool_module
from mlops_lab.events.on_sqlite import SqliteBus
from mlops_lab.events.spool import SpooledBus

AT = datetime(2013, 4, 1, tzinfo=UTC)


class Broker:
    """A bus that can be down, and that fails after having taken a part."""

    def __init__(self, path: Path) -> None:
        self.inner = SqliteBus(path)
        self.down = False
        self.takes_before_it_fails = 0

    def publish(self, topic: str, messages: Iterable[Message]) -> int:
        sent = list(messages)
        if self.down:
            self.inner.publish(topic, sent[: self.takes_before_it_fails])
            raise BusUnreachable.at("the broker", "it is down")
        return self.inner.publish(topic, sent)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


@pytest.fixture
def broker(tmp_path: Path) -> Broker:
    return Broker(tmp_path / "broker.db")


@pytest.fixture
def bus(broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SpooledBus]:
    monkeypatch.setattr(spool_module, "AGAIN_S", 0.02)
    bus = SpooledBus(broker, tmp_path / "spool.db")  # type: ignore[arg-type]  # the rest is delegated
    yield bus
    bus.close()


def facts(*numbers: int) -> list[Message]:
    return [Message("FlightDeparted", AT, "EWR", {"n": n}, id=f"fact-{n}", partition_key="N1", version=2) for n in numbers]


def arrived(broker: Broker, topic: str = OBSERVATIONS) -> list[int]:
    return [delivery.message.data["n"] for delivery in broker.inner.read(topic, 0, 10_000)]


def wait_until_drained(bus: SpooledBus) -> None:
    deadline = time.monotonic() + 20
    while bus.waiting():
        assert time.monotonic() < deadline, bus.waiting()
        time.sleep(0.01)


def test_a_broker_that_answers_gets_messages_at_once(bus: SpooledBus, broker: Broker, tmp_path: Path) -> None:
    assert bus.publish(OBSERVATIONS, facts(1, 2)) == 2
    assert arrived(broker) == [1, 2]
    assert bus.waiting() == {}
    assert not (tmp_path / "spool.db").exists()


def test_an_outage_is_bridged_in_order(bus: SpooledBus, broker: Broker) -> None:
    bus.publish(OBSERVATIONS, facts(1))
    broker.down, broker.takes_before_it_fails = True, 1
    for n in range(2, 40, 2):
        bus.publish(OBSERVATIONS, facts(n, n + 1))
    bus.publish(CONTROL, facts(100))
    assert bus.waiting() == {OBSERVATIONS: 38, CONTROL: 1}
    assert bus.trouble == "The event bus at the broker does not answer: it is down."
    broker.down = False
    bus.publish(OBSERVATIONS, facts(40))
    wait_until_drained(bus)
    bus.publish(OBSERVATIONS, facts(41))
    assert arrived(broker) == list(range(1, 42))
    assert arrived(broker, CONTROL) == [100]
    messages = [delivery.message for delivery in broker.inner.read(OBSERVATIONS, 0)]
    assert messages == facts(*range(1, 42))


def test_what_an_ended_process_left_goes_on_with_the_next_one(bus: SpooledBus, broker: Broker, tmp_path: Path) -> None:
    broker.down = True
    bus.publish(OBSERVATIONS, facts(1, 2, 3))
    bus.close()
    broker.down = False
    other = SpooledBus(broker, tmp_path / "spool.db")  # type: ignore[arg-type]
    assert other.waiting() == {OBSERVATIONS: 3}
    other.start()
    wait_until_drained(other)
    other.close()
    assert arrived(broker) == [1, 2, 3]


def test_one_process_drains_at_a_time(bus: SpooledBus, broker: Broker, tmp_path: Path) -> None:
    broker.down = True
    bus.publish(OBSERVATIONS, facts(1))
    bus.close()
    other = SpooledBus(broker, tmp_path / "spool.db")  # type: ignore[arg-type]
    with other._alone() as alone:
        assert alone
        assert SpooledBus(broker, tmp_path / "spool.db").drain() == 0  # type: ignore[arg-type]
    broker.down = False
    assert other.drain() == 1


def test_a_spool_that_is_drained_keeps_no_messages(bus: SpooledBus, broker: Broker, tmp_path: Path) -> None:
    for _ in range(3):
        broker.down = True
        bus.publish(OBSERVATIONS, facts(*range(200)))
        broker.down = False
        wait_until_drained(bus)
    bus.close()
    assert len(SqliteBus(tmp_path / "spool.db").read(OBSERVATIONS, 0)) == 1


def test_a_topic_that_has_to_be_made_first_is_an_error_at_once(bus: SpooledBus, broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(topic: str, messages: object) -> int:
        raise TopicMissing.of("the broker", topic)

    monkeypatch.setattr(broker, "publish", missing)
    with pytest.raises(TopicMissing):
        bus.publish(OBSERVATIONS, facts(1))
    assert bus.waiting() == {}


_PUBLISHER = """
import sys
from pathlib import Path
from test_spool import Broker, facts
from mlops_lab.events import OBSERVATIONS
from mlops_lab.events.spool import SpooledBus
home = Path(sys.argv[1])
broker = Broker(home / "broker.db")
bus = SpooledBus(broker, home / "spool.db")
n = 0
while True:
    broker.down = n % 50 < 25
    broker.takes_before_it_fails = n % 2
    bus.publish(OBSERVATIONS, facts(n, n + 1))
    n += 2
    print(n, flush=True)
"""


@pytest.mark.parametrize("after", [7, 40, 90])
def test_a_publisher_that_is_killed_has_lost_nothing_that_was_taken(tmp_path: Path, after: int) -> None:
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    with subprocess.Popen([sys.executable, "-c", _PUBLISHER, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=env) as publisher:
        assert publisher.stdout is not None
        taken = 0
        for line in publisher.stdout:
            taken = int(line)
            if taken >= after:
                publisher.kill()
                break
        rest = publisher.stdout.read().split()
        taken = max([taken, *map(int, rest)])
    broker = Broker(tmp_path / "broker.db")
    bus = SpooledBus(broker, tmp_path / "spool.db")  # type: ignore[arg-type]
    bus.drain()
    bus.close()
    found = arrived(broker)
    assert found == sorted(found)
    assert set(found) >= set(range(taken))
