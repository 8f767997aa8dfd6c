"""The workers: an order has the effect of once whoever dies, one that fails holds up no other, and what is settled is settled."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from time import sleep
from typing import Any

import pytest

from mlops_lab.bootstrap.identities import OPERATOR, PLATFORM
from mlops_lab.data.prediction import PREDICTIONS
from mlops_lab.errors import BusUnreachable, StoreUnreachable
from mlops_lab.events import CONTROL, Message
from mlops_lab.events.on_sqlite import SqliteBus
from mlops_lab.pipelines import handlers
from mlops_lab.pipelines.backlog import all_shipped
from mlops_lab.pipelines.handlers import TRAINING, WATCHING, handle
from mlops_lab.pipelines.orders import IngestBatch, PromoteModel, TrainModel, order_id
from mlops_lab.pipelines.promote import promote
from mlops_lab.pipelines.worker import Worker, settled
from mlops_lab.registry.version import State
from parcel_builders import PER_DAY, parcels, week
from pipeline_builders import SmallLab, a_training, deliver, give, on_control, reach, served, training_flow, work
from shipping_builders import answers, write


def test_a_worker_handles_each_message_once(empty: SmallLab, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr("mlops_lab.pipelines.worker.handle", lambda message, lab, duty: seen.append(message.id))
    order = deliver(empty, week(1))
    give(empty, order, order)
    worker = Worker(empty, WATCHING)

    assert worker.step() >= 1
    give(empty, order)
    assert worker.step() == 0
    assert seen.count(order.id) == 1


def test_two_workers_that_look_at_once_send_each_message_once(empty: SmallLab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker does not know ids: what both send is there twice, and an order that follows from it is carried out twice."""
    sent: list[str] = []

    def publish(self: SqliteBus, topic: str, messages: Sequence[Message]) -> int:
        found = list(messages)
        sleep(0.1)  # the way to a broker and back
        sent.extend(message.id for message in found)
        return len(found)

    monkeypatch.setattr(SqliteBus, "publish", publish)
    told = [Message("WindowDecided", week(1).closes_at, "test", {"window": f"2013-W0{n}", "outcome": "ok"}, id=f"m{n}") for n in (1, 2)]
    empty.ledger.record("note", "one", {}, at=week(1).closes_at, by=PLATFORM, why="a test", emit=told)
    waiting = [each.message.id for each in empty.outbox.pending()]
    workers = [Worker(SmallLab(empty.home), duty) for duty in (WATCHING, replace(TRAINING, ahead=None))]

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda worker: worker.step(), workers))

    assert waiting[-2:] == ["m1", "m2"]
    assert sorted(sent) == sorted(waiting)


def test_a_failed_order_is_recorded_and_the_next_one_is_done(empty: SmallLab) -> None:
    bad = deliver(empty, week(1), parcels(week(1)).assign(weight_kg=99.0))
    give(empty, bad, deliver(empty, week(2)))
    work(empty)
    failure = empty.ledger.facts("order_failed")[-1]

    assert (failure.subject, failure.body["type"]) == (bad.id, "IngestBatch")
    assert "weight is between" in failure.body["what"]
    assert failure.body["next"]
    assert [known.batch for known in empty.snapshots.all()] == ["2013-W02"]


def test_orders_are_done_by_the_worker_whose_duty_they_are(empty: SmallLab) -> None:
    give(empty, deliver(empty, week(1)))
    Worker(empty, TRAINING).step()
    assert empty.snapshots.all() == ()

    Worker(empty, WATCHING).step()
    assert len(empty.snapshots.all()) == 1


def test_all_is_settled_only_when_both_workers_have_seen_everything(empty: SmallLab) -> None:
    give(empty, deliver(empty, week(1)))
    work(empty)
    assert settled(empty)
    give(empty, deliver(empty, week(2)))
    for duty in (WATCHING, TRAINING):
        assert not settled(empty)
        Worker(empty, duty).step()
    assert not settled(empty)  # what the batch led to is on its way
    work(empty)
    assert settled(empty)


class Killed(BaseException):
    """What no handler catches."""


def killed_before_commit(lab: SmallLab, monkeypatch: pytest.MonkeyPatch, duty: handlers.Duty, kind: str) -> SmallLab:
    """Let a worker do what messages ask for, and die before it can say that one of a kind is done; returns the home's next process."""

    def commit(group: str, topic: str, offset: int) -> None:
        if lab.bus.read(topic, offset - 1, limit=1)[0].message.type == kind:
            raise Killed
        real(group, topic, offset)

    real = lab.bus.commit
    monkeypatch.setattr(lab.bus, "commit", commit)
    with pytest.raises(Killed):
        Worker(lab, duty).step()
    return lab.again()


def test_a_batch_whose_worker_was_killed_is_taken_in_once(empty: SmallLab, monkeypatch: pytest.MonkeyPatch) -> None:
    give(empty, deliver(empty, week(1)))
    again = killed_before_commit(empty, monkeypatch, WATCHING, "IngestBatch")
    facts = len(again.ledger.facts())
    work(again)

    assert len(again.snapshots.read("parcels")) == 7 * PER_DAY
    assert len(again.ledger.facts()) == facts
    assert len(on_control(again, "SnapshotAccepted")) == 1


def test_a_training_whose_worker_was_killed_gives_one_version_and_one_promotion(lab: SmallLab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even when it died after the promotion: the version is not judged against itself, and stays champion."""
    served(lab, 7, 8, 9, 10, turned=True)
    work(lab)
    give(lab, a_training(week(11).start, "retrain"))
    again = killed_before_commit(lab, monkeypatch, TRAINING, "TrainModel")
    assert again.ledger.champion().version == 2
    work(again)

    assert [version.number for version in again.ledger.versions()] == [1, 2]
    assert again.ledger.champion().version == 2
    assert len(again.ledger.facts("judgement", "2")) == 1
    assert again.ledger.facts("refusal") == []
    assert again.ledger.state(2) == State.SERVING
    assert [message.data["version"] for message in on_control(again, "ModelPromoted")] == [1, 2]
    assert again.ledger.unaccounted() == []
    assert again.trail.verify() is None


def test_a_training_that_was_killed_while_it_ran_is_done_by_the_next_worker(lab: SmallLab, monkeypatch: pytest.MonkeyPatch) -> None:
    served(lab, 7, 8, turned=True)
    work(lab)
    give(lab, a_training(week(9).start, "drill"))
    with monkeypatch.context() as patched:
        patched.setattr("pipeline_builders.make", lambda *_: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            Worker(lab, TRAINING).step()
    again = lab.again()
    work(again)

    assert [version.number for version in again.ledger.versions()] == [1, 2]
    assert len(again.ledger.facts("order", "train-drill-20130225")) == 1
    assert len(again.ledger.facts("order_done", "train-drill-20130225")) == 1


def test_a_rollback_whose_worker_was_killed_happens_once_and_stops_nobody(lab: SmallLab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found a second time, the degraded champion is champion no more: that is recorded, and the messages behind it are handled."""
    _, good = training_flow(a_training(week(7).start, "drill"), lab)
    _, bad = training_flow(a_training(week(7).start, "bad-drill", flip_share=0.8), lab)
    for version in (good, bad):
        promote(version.number, week(7).start, OPERATOR, lab, kind="override", why="a test")
    work(lab)
    data = {"window": "2013-W07", "version": bad.number, "because": "it is worse"}
    lab.bus.publish(CONTROL, [Message("ChampionDegraded", week(8).start, lab.model, data, id="degraded")])
    again = killed_before_commit(lab, monkeypatch, WATCHING, "ChampionDegraded")
    give(again, deliver(again, week(7)))
    work(again)

    assert again.ledger.champion().version == good.number
    assert len(on_control(again, "ModelRolledBack")) == 1
    assert again.ledger.facts("fact_failed")[-1].subject == "degraded"
    assert "2013-W07" in [snapshot.batch for snapshot in again.snapshots.all()]


def test_a_fact_whose_store_does_not_answer_is_taken_up_again(lab: SmallLab, monkeypatch: pytest.MonkeyPatch) -> None:
    served(lab, 7)
    work(lab)
    with monkeypatch.context() as patched:
        down = StoreUnreachable.at("the store", "it is down")
        patched.setattr(type(lab.tables), "read", lambda *_, **__: (_ for _ in ()).throw(down))
        with pytest.raises(StoreUnreachable):
            reach(lab, 7)
        assert lab.ledger.decisions() == []
    work(lab)

    assert [decision["window"] for decision in lab.ledger.decisions()] == ["2013-W07"]


def test_a_worker_waits_while_the_bus_is_down_and_goes_on(empty: SmallLab, monkeypatch: pytest.MonkeyPatch) -> None:
    give(empty, deliver(empty, week(1)))
    monkeypatch.setattr("mlops_lab.pipelines.worker.RETRY_S", 0.0)
    worker, times = Worker(empty, WATCHING), iter([True, False])
    real = empty.bus.read

    def read(*args: Any, **how: Any) -> Any:
        if next(times, False):
            raise BusUnreachable.at("the bus", "it is down")
        found = real(*args, **how)
        if not found:
            worker.stop()
        return found

    monkeypatch.setattr(empty.bus, "read", read)
    worker.run()
    assert len(empty.snapshots.all()) == 1


def test_while_messages_cannot_be_read_the_logs_go_on_into_the_tables(empty: SmallLab, monkeypatch: pytest.MonkeyPatch) -> None:
    write(empty.home, answers(1, 2))
    worker = Worker(empty, WATCHING)

    def read(*args: Any, **how: Any) -> Any:
        if all_shipped(empty):
            worker.stop()
        raise BusUnreachable.at("the bus", "it is down")

    monkeypatch.setattr("mlops_lab.pipelines.worker.RETRY_S", 0.0)
    monkeypatch.setattr("mlops_lab.pipelines.worker.IDLE_EVERY_S", 0.0)
    monkeypatch.setattr(empty.bus, "read", read)

    worker.run()

    assert list(empty.tables.read(PREDICTIONS)["prediction_id"]) == ["p1", "p2"]


def test_an_unknown_message_is_for_others(empty: SmallLab) -> None:
    handle(Message("SomethingElse", week(1).start, "x", {}), empty, WATCHING)

    assert empty.ledger.facts("fact_failed") == empty.ledger.facts("order_failed") == []


@pytest.mark.parametrize(
    "order",
    [
        IngestBatch("a", week(1).start, "operator", "/inbox", "2013-W01"),
        TrainModel("b", week(1).start, "trainer", origin="drill", flip_share=0.4),
        PromoteModel("c", week(1).start, "operator", 3),
    ],
)
def test_an_order_survives_its_way_over_the_bus(empty: SmallLab, order: IngestBatch | TrainModel | PromoteModel) -> None:
    give(empty, order)
    message = empty.bus.read(CONTROL, 0, limit=100)[-1].message

    assert type(order).from_message(message) == order


def test_an_orders_id_can_be_read() -> None:
    assert order_id("train-retrain", "2013-W29") == "train-retrain-2013-W29"
    assert order_id("train", week(1).start) == "train-2012-12-31T000000Z"
