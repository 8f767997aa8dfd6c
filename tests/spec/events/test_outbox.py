"""What the platform decided reaches the bus once and in order, whoever dies on the way."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from databases import database_of
from mlops_lab.audit import HeadsFile
from mlops_lab.audit.on_sql import SqlAudit, open_engine
from mlops_lab.clock import WallClock
from mlops_lab.errors import BusUnreachable
from mlops_lab.events import CONTROL, OBSERVATIONS, Message, relay
from mlops_lab.events.on_sql import SqlOutbox
from mlops_lab.events.on_sqlite import SqliteBus

AT = datetime(2013, 4, 8, tzinfo=UTC)

RELAY_AND_DIE = """
import os, signal, sys
from pathlib import Path
from mlops_lab.audit.on_sql import open_engine
from mlops_lab.events import relay
from mlops_lab.events.on_sql import SqlOutbox
from mlops_lab.events.on_sqlite import SqliteBus

home = Path(sys.argv[1])

class Dies(SqlOutbox):
    def mark_sent(self, positions):
        os.kill(os.getpid(), signal.SIGKILL)

relay(Dies(open_engine(sys.argv[2])), SqliteBus(home / "bus.db"), limit=3)
"""


@pytest.fixture
def trail(tmp_path: Path) -> SqlAudit:
    engine = open_engine(database_of(tmp_path))
    return SqlAudit(engine, HeadsFile(tmp_path / "heads.jsonl"), Ed25519PrivateKey.generate(), WallClock())


def a_message(number: int) -> Message:
    return Message("WindowDecided", AT, "flight-delay", {"number": number}, id=f"message-{number}")


def decide(trail: SqlAudit, *numbers: int, topic: str = CONTROL) -> None:
    with trail.recording(actor="watch", action="WindowDecided", subject="2013-W14", reason="skill held", at=AT) as tx:
        for number in numbers:
            tx.emit(topic, a_message(number))


def on_the_bus(bus: SqliteBus, topic: str = CONTROL) -> list[int]:
    return [delivery.message.data["number"] for delivery in bus.read(topic, after=0)]


def test_a_message_arrives_as_it_was_sent(trail: SqlAudit, tmp_path: Path) -> None:
    bus = SqliteBus(tmp_path / "bus.db")
    decide(trail, 1)

    assert relay(SqlOutbox(trail.engine), bus) == 1
    assert [delivery.message for delivery in bus.read(CONTROL, after=0)] == [a_message(1)]
    assert relay(SqlOutbox(trail.engine), bus) == 0


def test_messages_keep_their_order_over_many_rounds_and_topics(trail: SqlAudit, tmp_path: Path) -> None:
    bus = SqliteBus(tmp_path / "bus.db")
    decide(trail, 1, 2, 3)
    decide(trail, 4, 5, topic=OBSERVATIONS)
    decide(trail, 6, 7)

    assert relay(SqlOutbox(trail.engine), bus, limit=2) == 7
    assert on_the_bus(bus) == [1, 2, 3, 6, 7]
    assert on_the_bus(bus, OBSERVATIONS) == [4, 5]


def test_an_undone_record_sends_nothing(trail: SqlAudit) -> None:
    def fail_on_the_way() -> None:
        with trail.recording(actor="watch", action="WindowDecided", subject="2013-W14", reason="-", at=AT) as tx:
            tx.emit(CONTROL, a_message(1))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_on_the_way()

    assert SqlOutbox(trail.engine).pending() == []


def test_an_order_sent_twice_by_its_id_waits_once(trail: SqlAudit) -> None:
    decide(trail, 1)
    decide(trail, 1, 2)

    assert [each.message.id for each in SqlOutbox(trail.engine).pending()] == ["message-1", "message-2"]


def test_what_cannot_be_written_as_json_is_refused_before_it_is_decided(trail: SqlAudit) -> None:
    unwritable = Message("WindowDecided", AT, "flight-delay", {"gain": float("nan")})
    with (
        pytest.raises(ValueError, match="not JSON compliant"),
        trail.recording(actor="watch", action="WindowDecided", subject="2013-W14", reason="-", at=AT) as tx,
    ):
        tx.emit(CONTROL, unwritable)

    assert trail.entries() == []


def test_messages_wait_while_the_bus_is_down(trail: SqlAudit, tmp_path: Path) -> None:
    class Down(SqliteBus):
        def publish(self, topic: str, messages: Iterable[Message]) -> int:
            raise BusUnreachable.at("the bus", "it is down")

    decide(trail, 1, 2)
    with pytest.raises(BusUnreachable):
        relay(SqlOutbox(trail.engine), Down(tmp_path / "bus.db"))

    assert relay(SqlOutbox(trail.engine), SqliteBus(tmp_path / "bus.db")) == 2


def test_a_relay_killed_after_publishing_neither_loses_nor_doubles(trail: SqlAudit, tmp_path: Path) -> None:
    """The bus has the first three, the outbox does not know it: the next relay sends them again, the bus skips them."""
    decide(trail, 1, 2, 3, 4, 5)
    died = subprocess.run([sys.executable, "-c", RELAY_AND_DIE, str(tmp_path), database_of(tmp_path)], check=False, env=os.environ)
    bus = SqliteBus(tmp_path / "bus.db")
    assert died.returncode == -signal.SIGKILL
    assert on_the_bus(bus) == [1, 2, 3]
    assert len(SqlOutbox(trail.engine).pending()) == 5

    relay(SqlOutbox(trail.engine), bus)

    assert on_the_bus(bus) == [1, 2, 3, 4, 5]
