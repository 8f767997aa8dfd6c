"""The faults of events and features: their disorder is as much as they say, and each checker sees what is planted before it."""

import json
import random
import sqlite3
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mlops_lab.chaos import broker_kills, bus_file, kept_rows, outages, processor_kills, publish, store_losses
from mlops_lab.chaos.broker import Broker
from mlops_lab.chaos.catalogue import CATALOGUE
from mlops_lab.chaos.disorder import LATE_UP_TO, Sending, in_disorder, number_in, shares_of, write
from mlops_lab.chaos.fault import CannotProve, Finding, Result, Size
from mlops_lab.chaos.folded import Difference, difference, rows_of
from mlops_lab.chaos.happenings import happenings
from mlops_lab.chaos.history import Request
from mlops_lab.chaos.replica import free_port
from mlops_lab.chaos.runner import require_tools
from mlops_lab.chaos.stored import Stored
from mlops_lab.chaos.streamed import Laid, Rest, Streamed, dead_broken, lost_on_topic, order_broken, outcomes_broken, rows_broken
from mlops_lab.cli.main import run
from mlops_lab.errors import MessageUnreadable
from mlops_lab.events import FEEDBACK, OBSERVATIONS, REFERENCES, Message
from mlops_lab.events.on_sqlite import SqliteBus
from mlops_lab.features.feast_layout import Layout, to_value_proto
from mlops_lab.features.intake import TOO_LATE
from mlops_lab.features.rows import RowRef
from mlops_lab.flights.rows import DELAY_FACT, HEADER, VIEWS, FlightRows
from mlops_lab.flights.source import Year

LAYOUT = Layout(VIEWS)
SECOND = 1_000_000_000


@pytest.fixture(scope="module")
def sendings(year: Year) -> list[Sending]:
    """Three days with outcomes, in disorder, some of it poison."""
    return in_disorder(happenings(year, 3, seed=7, reports=True), random.Random(7), new_ids=False, poison_share=0.01)


def broken(finding: Finding | Sequence[str]) -> str:
    return " | ".join(finding.broken if isinstance(finding, Finding) else finding)


# Disorder


@pytest.mark.parametrize("seed", range(3))
def test_there_is_as_much_disorder_as_is_said(year: Year, seed: int) -> None:
    sent = in_disorder(happenings(year, 3, seed), random.Random(seed), new_ids=False)
    shares = shares_of(sent)
    assert shares.again == pytest.approx(0.10, abs=0.015)
    assert shares.behind == pytest.approx(0.20, abs=0.025)
    assert shares.late == pytest.approx(0.05, abs=0.015)
    assert sent == in_disorder(happenings(year, 3, seed), random.Random(seed), new_ids=False)


def test_nothing_comes_so_late_that_no_row_may_take_it(sendings: list[Sending]) -> None:
    newest = datetime.min.replace(tzinfo=UTC)
    for each in sendings:
        if each.topic == OBSERVATIONS and not each.poison:
            assert each.message.at > max(newest, each.message.at) - TOO_LATE
            newest = max(newest, each.message.at)
    assert LATE_UP_TO < TOO_LATE


def test_each_sending_carries_its_number(sendings: list[Sending]) -> None:
    assert [number_in(each.message.traceparent) for each in sendings] == list(range(1, len(sendings) + 1))
    assert number_in("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01") is None
    assert number_in("") is None


def test_what_is_sent_twice_has_another_id_where_the_bus_knows_ids(year: Year) -> None:
    sent = in_disorder(happenings(year, 1, 7), random.Random(7), new_ids=True)
    assert len({each.message.id for each in sent}) == len(sent)
    assert shares_of(sent).again > 0.08


# Rows


def facts_of(sent: Sequence[Sending]) -> list[Message]:
    return [each.message for each in sent if each.topic != FEEDBACK and not each.poison]


def test_rows_worked_out_by_sets_are_those_of_the_platforms_own_fold(sendings: list[Sending]) -> None:
    fold = FlightRows()
    fold.apply(facts_of(sendings))
    assert dict(fold.rows()) == rows_of(facts_of(sendings))


def in_order(sent: Sequence[Sending], **changes: Any) -> Streamed:
    """Everything as it should be: one partition, poison buried, each outcome in the table as often as it lies on its topic."""
    offsets: dict[str, int] = {}
    laid, dead = [], []
    for each in sent:
        offset = offsets[each.topic] = offsets.get(each.topic, 0) + 1
        place = Laid.of(each.topic, 0, offset, each.message.key, json.dumps(each.message.to_cloudevent()).encode())
        laid.append(place)
        if each.poison:
            dead.append(a_letter(place))
    outcomes = [each.message.id for each in sent if each.topic == FEEDBACK]
    return replace(Streamed(sent, laid, dead, rows_of(facts_of(sent)), 0, outcomes), **changes)


def a_letter(of: Laid, **changes: Any) -> Laid:
    data = {"tries": 3, "raw": of.raw.decode(), "encoding": "utf-8"} | changes
    return Laid.of(f"{of.topic}.dead", 0, 1, of.place, json.dumps({"id": of.place, "type": "DeadLetter", "data": data}).encode())


@pytest.fixture(scope="module")
def good(sendings: list[Sending]) -> Streamed:
    return in_order(sendings)


def test_what_is_as_it_should_be_is_not_complained_of(good: Streamed) -> None:
    everything = (*rows_broken(good), *lost_on_topic(good), *order_broken(good.laid), *dead_broken(good), *outcomes_broken(good))
    assert everything == ()


def a_row(good: Streamed, view: str = "origin_departures") -> tuple[RowRef, bytes]:
    return next((ref, row) for ref, row in good.rows.items() if ref.view == view)


def test_a_lost_fact_is_seen(good: Streamed) -> None:
    ref, row = a_row(good)
    shortened = {**good.rows, ref: row[: -DELAY_FACT.size]}
    found = difference(good.rows, shortened)
    assert (found.lost, found.doubled) == (1, 0)
    assert "lacks 1 components and has 0 too many" in broken(rows_broken(replace(good, rows=shortened)))


def test_a_fact_that_counted_twice_is_seen(good: Streamed) -> None:
    ref, row = a_row(good)
    found = difference(good.rows, {**good.rows, ref: row + row[-DELAY_FACT.size :]})
    assert (found.lost, found.doubled) == (0, 1)


def test_a_row_that_is_missing_or_that_nobody_sent_is_seen(good: Streamed) -> None:
    ref, row = a_row(good)
    without = {known: each for known, each in good.rows.items() if known != ref}
    lost = difference(good.rows, without)
    assert lost.lost == (len(row) - HEADER.size) // DELAY_FACT.size
    assert "is missing" in broken(lost.broken)
    assert "nothing was sent for it" in broken(difference(without, good.rows).broken)
    assert "3 rows of things that were never sent" in broken(rows_broken(replace(good, strangers=3)))


def test_a_row_that_says_it_reaches_further_back_is_seen(good: Streamed) -> None:
    ref, row = a_row(good)
    found = difference(good.rows, {**good.rows, ref: row[:4] + struct.pack("<I", 5) + row[8:]})
    assert (found.lost, found.doubled, len(found.broken)) == (0, 0, 1)


def test_rows_of_nothing_prove_nothing(good: Streamed) -> None:
    assert "nothing was tried" in broken(rows_broken(replace(good, sent=[], rows={})))


# Topics


def test_an_event_that_was_accepted_and_does_not_lie_there_is_seen(good: Streamed) -> None:
    once = next(each for each in good.sent if each.topic == OBSERVATIONS and not each.poison)
    laid = [each for each in good.laid if each.event and each.event["id"] != once.message.id]
    assert f"event {once.message.id} was accepted" in broken(lost_on_topic(replace(good, laid=laid)))
    one_of_two = [each for each in good.laid if each.number != once.number]
    repeated = len([each for each in good.sent if each.message.id == once.message.id]) > 1
    assert bool(lost_on_topic(replace(good, laid=one_of_two))) is not repeated


def lying(*numbers: int, key: str = "N1", partition: int = 0) -> list[Laid]:
    found = []
    for offset, number in enumerate(numbers, 1):
        message = Message("FlightDeparted", datetime(2013, 4, 1, tzinfo=UTC), "EWR", {}, traceparent=f"00-{number:032x}-{number:016x}-00")
        found.append(Laid.of(OBSERVATIONS, partition, offset, key, json.dumps(message.to_cloudevent()).encode()))
    return found


def test_a_batch_that_was_sent_again_is_in_order() -> None:
    assert order_broken(lying(1, 2, 1, 2, 3)) == ()
    assert order_broken(lying(1, 3) + lying(2, 4, key="N2")) == ()


@pytest.mark.parametrize("numbers", [(1, 3, 2), (2, 1, 2), (1, 2, 3, 2)])
def test_an_event_that_overtook_another_of_its_key_is_seen(numbers: tuple[int, ...]) -> None:
    assert "lies behind sending" in broken(order_broken(lying(*numbers)))


def test_a_key_in_two_partitions_is_seen() -> None:
    assert "lies in partitions [0, 1]" in broken(order_broken(lying(1) + lying(2, partition=1)))


def test_poison_without_a_letter_and_a_letter_without_poison_are_seen(good: Streamed) -> None:
    assert len(good.letters) > 10
    assert "is not among the dead letters" in broken(dead_broken(replace(good, dead=good.dead[1:])))
    sound = next(each for each in good.laid if each.topic == OBSERVATIONS and each.place not in good.letters)
    assert "is among the dead letters and can be used" in broken(dead_broken(replace(good, dead=[*good.dead, a_letter(sound)])))


def test_burying_again_has_the_effect_of_once_and_garbage_is_poison_too(good: Streamed) -> None:
    garbage = Laid.of(OBSERVATIONS, 0, 99_999, "poison", b"poison 7: no event")
    seen = replace(good, laid=[*good.laid, garbage], dead=[*good.dead, good.dead[0], a_letter(garbage)])
    assert dead_broken(seen) == ()
    assert "99999 cannot be used" in broken(dead_broken(replace(seen, dead=good.dead)))


@pytest.mark.parametrize(("changes", "says"), [({"tries": 1}, "after 1 tries"), ({"raw": "something else"}, "does not hold it")])
def test_a_letter_that_says_something_else_is_seen(good: Streamed, changes: Mapping[str, Any], says: str) -> None:
    poisoned = next(each for each in good.laid if each.place in good.letters)
    others = [each for each in good.dead if each.event and each.event["id"] != poisoned.place]
    assert says in broken(dead_broken(replace(good, dead=[*others, a_letter(poisoned, **changes)])))


def test_what_is_no_letter_and_a_run_without_poison_are_seen(good: Streamed) -> None:
    assert "is no dead letter" in broken(dead_broken(replace(good, dead=[*good.dead, *lying(1)])))
    clean = [each for each in good.sent if not each.poison]
    assert "no dead letter was tried" in broken(dead_broken(in_order(clean)))


# Outcomes


def test_an_outcome_that_is_lost_or_doubled_is_seen(good: Streamed) -> None:
    first = good.outcomes[0]
    assert f"outcome {first} was accepted and is not in the table" in broken(
        outcomes_broken(replace(good, outcomes=[each for each in good.outcomes if each != first]))
    )
    assert "times in the table" in broken(outcomes_broken(replace(good, outcomes=[*good.outcomes, first])))
    assert "outcome stranger lies 0 times" in broken(outcomes_broken(replace(good, outcomes=[*good.outcomes, "stranger"])))


def test_an_outcome_that_was_sent_again_is_in_the_table_as_often_as_on_its_topic(good: Streamed) -> None:
    again = next(each for each in good.laid if each.topic == FEEDBACK)
    assert again.event is not None
    twice = replace(good, laid=[*good.laid, again])
    assert outcomes_broken(replace(twice, outcomes=[*good.outcomes, again.event["id"]])) == ()
    assert outcomes_broken(twice) != ()


# Each fault


def batch(until: int, began_s: float = 1.0, took_s: float = 0.1, refused: int = 0) -> publish.Accepted:
    return publish.Accepted(until, int(began_s * SECOND), int((began_s + took_s) * SECOND), refused)


AT_REST = Rest(2.0, Difference(0, 0, ()))
NOT_AT_REST = Rest(float("inf"), Difference(2, 1, ("row x lacks 2 components",)))
DOWN = outages.Outage(2 * SECOND, 12 * SECOND)


def test_e1_holds_and_can_fail(good: Streamed) -> None:
    seen = broker_kills.Killed(good, [DOWN], [batch(10)], [AT_REST])
    assert broker_kills.check(seen).held
    assert "1 kills" in broker_kills.check(seen).measured
    assert "0 lost, 0 double" in broker_kills.check(seen).measured
    assert "at rest 2: row x lacks 2" in broken(broker_kills.check(replace(seen, rests=[AT_REST, NOT_AT_REST])))
    assert "2 lost, 1 double" in broker_kills.check(replace(seen, rests=[AT_REST, NOT_AT_REST])).measured
    assert "never killed" in broken(broker_kills.check(replace(seen, outages=[])))
    assert "refused 2 times" in broken(broker_kills.check(replace(seen, accepted=[batch(10, refused=2)])))
    for doctored in planted(good):
        assert not broker_kills.check(replace(seen, streamed=doctored)).held


def planted(good: Streamed) -> Iterator[Streamed]:
    """One loss, one double, one swap, one outcome too many."""
    ref, row = a_row(good)
    yield replace(good, rows={**good.rows, ref: row[: -DELAY_FACT.size]})
    yield replace(good, rows={**good.rows, ref: row + row[-DELAY_FACT.size :]})
    yield replace(good, laid=[*good.laid, *lying(7, 6)])
    yield replace(good, outcomes=[*good.outcomes, good.outcomes[0]])


@pytest.mark.parametrize("name", ["E2", "E5"])
def test_e2_and_e5_hold_and_can_fail(good: Streamed, name: str) -> None:
    check = CATALOGUE[name].check
    seen = processor_kills.Killed(good, 3, 2, [AT_REST], good.rows)
    assert check(seen).held, check(seen).broken
    assert "at rest 1: row x lacks 2" in broken(check(replace(seen, rests=[NOT_AT_REST])))
    assert "nothing was tried" in broken(check(replace(seen, caught=0)))
    ref, row = a_row(good)
    assert "read again from the start: row" in broken(check(replace(seen, again={**good.rows, ref: row[:-8]})))
    assert "not among the dead letters" in broken(check(replace(seen, streamed=replace(good, dead=[]))))
    orderly = in_order([each for each in good.sent if each.message.at > datetime(2999, 1, 1, tzinfo=UTC) - timedelta(days=1)])
    assert "of the facts were twice" in broken(check(replace(seen, streamed=orderly)))
    for doctored in list(planted(good))[:3]:
        assert not check(replace(seen, streamed=doctored)).held


def an_answer(number: int, **changes: Any) -> Request:
    body = json.dumps({"prediction_id": f"p{number}", "model_version": 1})
    return replace(Request(f"r{number}", 200, body, SECOND, SECOND + SECOND // 100), **changes)


def test_e3_holds_and_can_fail(good: Streamed) -> None:
    loss = store_losses.Loss(4000, 0, 3.0, (0.0, None, 0.0))
    log = Stored([{"kind": "predictions", "request_id": "r1", "rows": [{"prediction_id": "p1"}]}])
    seen = store_losses.Lost([an_answer(1)], log, good, [loss])
    check = store_losses.check
    assert check(seen).held
    assert "1 losses of 4000 rows, complete again ≤ 3.0 s, 1 requests, 0 failed" in check(seen).measured
    for changes, says in (
        ({"left": 4000}, "did not bite"),
        ({"complete_s": 31.0}, "complete after 31.0 s"),
        ({"ages": (0.0, 0.0, 0.0)}, "0.0 s without the store"),
        ({"ages": (0.0, None, None)}, "None s after"),
    ):
        assert says in broken(check(replace(seen, losses=[replace(loss, **changes)])))
    assert "r1 got 503" in broken(check(replace(seen, requests=[an_answer(1, status=503)])))
    assert "took 2.00 s" in broken(check(replace(seen, requests=[an_answer(1, done_ns=3 * SECOND)])))
    assert "not in the log" in broken(check(replace(seen, stored=Stored())))
    assert "nothing was tried" in broken(check(replace(seen, losses=[])))
    assert not check(replace(seen, streamed=next(planted(good)))).held


def test_e4_holds_and_can_fail(good: Streamed) -> None:
    accepted = [batch(10, 1.0), batch(20, 3.0, 2.0), batch(420, 6.0), batch(440, 14.0)]
    seen = outages.Away(good, DOWN, accepted, 2.5, 4.0)
    check = outages.check
    assert check(seen).held
    assert "10 s away, 400 events spooled" in check(seen).measured
    hindered = [batch(10, 1.0), batch(20, 3.0, 2.0), batch(220, 6.0), batch(240, 14.0)]
    assert "publishers went on at 20.0 events a second" in broken(check(replace(seen, accepted=hindered)))
    assert "nothing was tried" in broken(check(replace(seen, accepted=[batch(10, 1.0)])))
    assert "`publish` took 21.0 s" in broken(check(replace(seen, accepted=[*accepted, batch(450, 20.0, 21.0)])))
    assert "inf s after the broker was back" in broken(check(replace(seen, drained_s=float("inf"))))
    for doctored in list(planted(good))[:3]:
        assert not check(replace(seen, streamed=doctored)).held


# What reads and what sends


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


LISTENS = """
import socket, sys
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("listening", flush=True)
sys.stdin.read()  # it ends with the test
"""


def a_broker(tmp_path: Path, port: int, command: str = "true") -> Broker:
    return Broker(f"127.0.0.1:{port}", command, tmp_path / "pid", {})


def test_a_broker_is_killed_by_its_pid_and_has_to_be_gone_with_that(tmp_path: Path) -> None:
    port, other = free_port(), free_port()
    with (
        subprocess.Popen([sys.executable, "-c", LISTENS, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as mine,
        subprocess.Popen([sys.executable, "-c", LISTENS, str(other)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as theirs,
    ):
        for process in (mine, theirs):
            assert process.stdout is not None
            process.stdout.readline()
        (tmp_path / "pid").write_text(f"{mine.pid}\n")
        broker = a_broker(tmp_path, port)
        assert broker.start() < 10
        broker.kill()
        assert mine.wait(10) == -9
        assert not broker.answers()
        with pytest.raises(CannotProve, match="nobody answers"):
            broker.start()
        with pytest.raises(CannotProve, match="left with 3"):
            a_broker(tmp_path, other, "exit 3").start()
        theirs.kill()
    (tmp_path / "pid").unlink()
    with pytest.raises(CannotProve, match="does not say which process"):
        a_broker(tmp_path, port).kill()


def test_a_process_that_is_not_the_broker_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlops_lab.chaos.broker._GONE_S", 0.2)
    port = free_port()
    with subprocess.Popen([sys.executable, "-c", LISTENS, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as listens:
        assert listens.stdout is not None
        listens.stdout.readline()
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as bystander:
            (tmp_path / "pid").write_text(str(bystander.pid))
            with pytest.raises(CannotProve, match="still answers"):
                a_broker(tmp_path, port).kill()
        listens.kill()


def test_a_fault_that_kills_a_broker_is_never_skipped(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CannotProve, match=r"E1 .* needs a broker") as raised:
        require_tools([CATALOGUE["E1"]], None)
    assert "--broker-pid FILE" in raised.value.next_step
    assert run(["chaos", "E1"]) == 2
    assert "LAB_EVENTS__KAFKA" in capsys.readouterr().err
    assert run(["chaos", "E5", "--broker", "true"]) == 2


def test_without_a_broker_the_others_are_tried_and_the_rest_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def prove(faults: Sequence[Any], world: Any, seed: int, size: Size) -> Iterator[Result]:
        return (Result(fault.id, size, seed, 0.1, Finding("tried")) for fault in faults)

    monkeypatch.setattr("mlops_lab.chaos.runner.require_tools", lambda *_: None)
    monkeypatch.setattr("mlops_lab.chaos.runner.prove", prove)
    assert run(["chaos"]) == 0
    said = capsys.readouterr().out
    assert "Left out, for want of a broker that may be killed: E1, E2, E3, E4." in said
    without = [name for name, fault in CATALOGUE.items() if not fault.kills_broker]
    assert f"All {len(without)} promises held." in said
    assert "E5  held" in said
