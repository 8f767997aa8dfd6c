"""Who sends in the faults of events, and who reads what lies there: each goes its own way, beside the platform's."""

import sqlite3
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlops_lab.chaos import bus_file, kept_rows, publish
from mlops_lab.chaos.disorder import Sending, write
from mlops_lab.chaos.streamed import Streamed
from mlops_lab.errors import MessageUnreadable
from mlops_lab.events import FEEDBACK, OBSERVATIONS, REFERENCES
from mlops_lab.events.on_sqlite import SqliteBus
from mlops_lab.features.feast_layout import Layout, to_value_proto
from mlops_lab.features.rows import RowRef
from mlops_lab.flights.rows import VIEWS

LAYOUT = Layout(VIEWS)


def test_the_embedded_bus_is_read_as_it_lies_there(tmp_path: Path, sendings: list[Sending]) -> None:
    bus = SqliteBus(tmp_path / "bus.db")
    sent = [each for each in sendings if each.topic == OBSERVATIONS][:50]
    bus.publish(OBSERVATIONS, [each.message for each in sent])
    bus_file.put_raw(tmp_path / "bus.db", OBSERVATIONS, "poison-1", "poison 1: no event")

    laid = bus_file.laid_in(tmp_path / "bus.db", OBSERVATIONS)

    first_of = {each.message.id: each for each in reversed(sent)}  # the bus leaves out an id that it has
    assert [each.number for each in laid[:-1]] == [each.number for each in sent if first_of[each.message.id] is each]
    assert laid[0].key == sent[0].message.key
    assert (laid[-1].event, laid[-1].offset) == (None, len(laid))
    with pytest.raises(MessageUnreadable):
        bus.read(OBSERVATIONS, len(laid) - 1)
    bus.close()


def test_rows_are_read_out_of_the_store_with_what_is_none_of_them(tmp_path: Path, good: Streamed) -> None:
    path = tmp_path / "online.db"
    assert kept_rows.in_sqlite(path, good.rows) == kept_rows.NOTHING
    stranger = RowRef("origin_departures", ("XXX",))
    with sqlite3.connect(path) as db:
        for ref, row in [*good.rows.items(), (stranger, b"row1")]:
            table = LAYOUT.sqlite_table(ref.view)
            db.execute(f"CREATE TABLE IF NOT EXISTS {table} (entity_key BLOB, feature_name TEXT, value BLOB)")
            db.execute(f"INSERT INTO {table} VALUES (?, 'components', ?)", (LAYOUT.entity_key(ref), to_value_proto(row)))
    db.close()

    assert kept_rows.in_sqlite(path, good.rows) == (good.rows, 1)


def test_a_publisher_goes_on_behind_what_it_wrote_down(tmp_path: Path, sendings: list[Sending]) -> None:
    bus = SqliteBus(tmp_path / "bus.db")
    write(sendings[:100], tmp_path / "sendings.jsonl")
    plan = publish.Plan(str(tmp_path / "sendings.jsonl"), str(tmp_path / "accepted.jsonl"), 2000.0)
    stop = threading.Event()

    class Stops(SqliteBus):
        """Tells the publisher to stop once some batches are there."""

        def publish(self, topic: str, messages: Any) -> int:
            if self.head(REFERENCES) >= 40:
                stop.set()
            return super().publish(topic, messages)

    publish._work(replace(plan, per_second=200.0), Stops(tmp_path / "bus.db"), stop)
    done = publish.read_accepted(tmp_path / "accepted.jsonl")
    assert 40 <= publish.until(done) < 100
    (tmp_path / "accepted.jsonl").write_bytes((tmp_path / "accepted.jsonl").read_bytes() + b'{"until": 9')  # killed while it wrote

    publish._work(plan, bus, threading.Event())

    assert publish.until(publish.read_accepted(tmp_path / "accepted.jsonl")) == 100
    there = [each.number for topic in (REFERENCES, OBSERVATIONS, FEEDBACK) for each in bus_file.laid_in(tmp_path / "bus.db", topic)]
    ids = {each.message.id for each in sendings[:100]}
    assert len(there) == len(ids)


def test_a_publisher_holds_until_it_may_go_on(tmp_path: Path, sendings: list[Sending]) -> None:
    write(sendings, tmp_path / "sendings.jsonl")
    plan = publish.Plan(str(tmp_path / "sendings.jsonl"), str(tmp_path / "accepted.jsonl"), 100.0)
    home = {"LAB_HOME": str(tmp_path / "home"), "LAB_EVENTS__BUS": "embedded"}
    with publish.Publisher(plan, home, tmp_path / "stderr") as publisher:
        publisher.spawn()
        publisher.await_accepted(1)
        publisher.hold()
        held = publish.until(publisher.accepted())
        publisher.hold()  # again changes nothing
        assert publish.until(publisher.accepted()) == held
        publisher.go_on()
        publisher.await_accepted(held + 1)
        assert publisher.end() == 0
