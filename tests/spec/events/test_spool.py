"""Publishers go on while the broker is down: nothing is lost, nothing overtakes, and all of it arrives by itself."""

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mlops_lab.bootstrap import Lab
from mlops_lab.bootstrap.founding import found
from mlops_lab.chaos.disorder import number_in
from mlops_lab.errors import BusUnreachable, MessageUnsendable, TopicMissing
from mlops_lab.events import CONTROL, OBSERVATIONS, EventBus, Message
from mlops_lab.events import spool as spool_module
from mlops_lab.events.on_sqlite import SqliteBus
from mlops_lab.events.spool import SpooledBus
from mlops_lab.events.topics import ALL_TOPICS, MAX_EVENT_BYTES
from mlops_lab.events.wire import encode
from mlops_lab.pipelines.handlers import DUTIES
from mlops_lab.pipelines.worker import Worker
from mlops_lab.settings import Settings

AT = datetime(2013, 4, 1, tzinfo=UTC)


class Broker:
    """A bus that can be down, and that fails after having taken a part."""

    def __init__(self, path: Path) -> None:
        self.inner = SqliteBus(path)
        self.down = False
        self.takes_before_it_fails = 0
        self.missing: set[str] = set()

    def check(self, topic: str, messages: Sequence[Message]) -> None:
        encode(ALL_TOPICS[topic], messages)

    def publish(self, topic: str, messages: Iterable[Message]) -> int:
        sent = list(messages)
        if topic in self.missing:
            raise TopicMissing.of("the broker", topic)
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
    bus = SpooledBus(broker, tmp_path / "spool.db", broker.check)  # type: ignore[arg-type]  # the rest is delegated
    yield bus
    bus.close()


def facts(*numbers: int) -> list[Message]:
    return [Message("FlightDeparted", AT, "EWR", {"n": n}, id=f"fact-{n}", partition_key="N1", version=2) for n in numbers]


def arrived(broker: Broker, topic: str = OBSERVATIONS) -> list[int]:
    return [delivery.message.data["n"] for delivery in broker.inner.read(topic, 0, 10_000)]


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def wait_until_drained(bus: EventBus) -> None:
    wait_until(lambda: not bus.waiting())


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


def sent(*numbers: int) -> list[Message]:
    """Sendings of one event."""
    return [replace(facts(1)[0], traceparent=f"00-{n:032x}-{n:016x}-00") for n in numbers]


def sendings(broker: Broker) -> list[int | None]:
    return [number_in(delivery.message.traceparent) for delivery in broker.inner.read(OBSERVATIONS, 0, 10_000)]


def test_what_the_broker_took_without_saying_so_is_sent_again_whole_with_ids_that_wait_already(
    broker: Broker, bus: SpooledBus, tmp_path: Path
) -> None:
    """An event that was sent twice in a batch: the second sending lay before the first one's repetition, and there was none of its own."""
    broker.inner = SqliteBus(tmp_path / "kafka.db", each_id_once=False)
    broker.down, broker.takes_before_it_fails = True, 3
    assert bus.publish(OBSERVATIONS, [*sent(1), *facts(2), *sent(3)]) == 3
    assert bus.publish(OBSERVATIONS, sent(4)) == 1
    broker.down = False
    wait_until_drained(bus)

    found = sendings(broker)
    assert found[:3] == [1, None, 3]
    assert found[-4:] == [1, None, 3, 4]


def test_a_spool_of_an_earlier_release_keeps_what_it_holds_and_takes_ids_it_has(broker: Broker, bus: SpooledBus, tmp_path: Path) -> None:
    earlier = SqliteBus(tmp_path / "spool.db")
    earlier.publish(OBSERVATIONS, sent(1))
    earlier.close()
    broker.inner = SqliteBus(tmp_path / "kafka.db", each_id_once=False)

    assert bus.publish(OBSERVATIONS, sent(2)) == 1
    wait_until_drained(bus)

    assert sendings(broker) == [1, 2]


def test_what_an_ended_process_left_goes_on_with_the_next_one(bus: SpooledBus, broker: Broker, tmp_path: Path) -> None:
    broker.down = True
    bus.publish(OBSERVATIONS, facts(1, 2, 3))
    bus.close()
    broker.down = False
    other = SpooledBus(broker, tmp_path / "spool.db", broker.check)  # type: ignore[arg-type]
    assert other.waiting() == {OBSERVATIONS: 3}
    other.start()
    wait_until_drained(other)
    other.close()
    assert arrived(broker) == [1, 2, 3]


def test_one_process_drains_at_a_time(bus: SpooledBus, broker: Broker, tmp_path: Path) -> None:
    broker.down = True
    bus.publish(OBSERVATIONS, facts(1))
    bus.close()
    other = SpooledBus(broker, tmp_path / "spool.db", broker.check)  # type: ignore[arg-type]
    with other._alone() as alone:
        assert alone
        assert SpooledBus(broker, tmp_path / "spool.db", broker.check).drain() == 0  # type: ignore[arg-type]
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


def test_a_topic_that_has_to_be_made_first_is_an_error_at_once(bus: SpooledBus, broker: Broker) -> None:
    broker.missing = {OBSERVATIONS}
    with pytest.raises(TopicMissing):
        bus.publish(OBSERVATIONS, facts(1))
    assert bus.waiting() == {}


def test_what_no_broker_would_take_does_not_get_into_the_queue(bus: SpooledBus, broker: Broker) -> None:
    """It would be refused when it is its turn, and all that came later would wait behind it for ever."""
    broker.down = True
    bus.publish(OBSERVATIONS, facts(1))
    large = Message("FlightDeparted", AT, "EWR", {"text": "x" * MAX_EVENT_BYTES}, id="large")
    with pytest.raises(MessageUnsendable, match="'large'"):
        bus.publish(OBSERVATIONS, [*facts(2), large])
    bus.publish(OBSERVATIONS, facts(3))
    broker.down = False
    wait_until_drained(bus)
    assert arrived(broker) == [1, 3]


def test_a_topic_that_is_stuck_holds_up_no_other(bus: SpooledBus, broker: Broker) -> None:
    broker.down = True
    bus.publish(CONTROL, facts(1))
    bus.publish(OBSERVATIONS, facts(2))
    broker.down, broker.missing = False, {CONTROL}
    wait_until(lambda: bus.waiting() == {CONTROL: 1})
    assert arrived(broker) == [2]
    broker.missing = set()
    wait_until_drained(bus)
    assert arrived(broker, CONTROL) == [1]


def test_a_damaged_spool_is_told_and_holds_up_its_topic_only(bus: SpooledBus, broker: Broker, tmp_path: Path) -> None:
    broker.down = True
    bus.publish(CONTROL, facts(1))
    bus.publish(OBSERVATIONS, facts(2))
    with sqlite3.connect(tmp_path / "spool.db") as db:
        db.execute("UPDATE message SET data = 'no json' WHERE topic = 'control'")
    db.close()
    broker.down = False
    wait_until(lambda: arrived(broker) == [2] and "cannot be read" in str(bus.trouble))
    bus.publish(OBSERVATIONS, facts(3))
    wait_until(lambda: arrived(broker) == [2, 3])
    assert bus.waiting() == {CONTROL: 1}


def test_a_worker_sends_what_a_publisher_left_that_is_gone(broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "AGAIN_S", 0.02)
    lab = Lab(Settings(home=tmp_path / "home"))
    found(lab)
    worker = Worker(lab, replace(DUTIES["watcher"], ahead=None, guard=None, idle=None))
    lab.__dict__["bus"] = SpooledBus(broker, tmp_path / "spool.db", broker.check)  # type: ignore[arg-type]
    worker.step()
    gone = SpooledBus(broker, tmp_path / "spool.db", broker.check)  # type: ignore[arg-type]
    broker.down = True
    gone.publish(OBSERVATIONS, facts(1, 2))
    gone.close()
    broker.down = False

    worker.step()

    wait_until_drained(lab.bus)
    assert arrived(broker) == [1, 2]
    lab.bus.close()


_PUBLISHER = """
import sys
from pathlib import Path
from test_spool import Broker, facts
from mlops_lab.events import OBSERVATIONS
from mlops_lab.events.spool import SpooledBus
home = Path(sys.argv[1])
broker = Broker(home / "broker.db")
bus = SpooledBus(broker, home / "spool.db", broker.check)
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
    bus = SpooledBus(broker, tmp_path / "spool.db", broker.check)  # type: ignore[arg-type]
    bus.drain()
    bus.close()
    found = arrived(broker)
    assert found == sorted(found)
    assert set(found) >= set(range(taken))
