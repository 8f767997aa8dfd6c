"""Outcomes that are reported on a real broker are in their table once: six partitions, repeated ids, kill -9, a topic made anew."""

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from feedback_builders import REPORTED_AT, KafkaLab, a_report, nonsense, on_kafka
from mlops_lab.bootstrap.broker import broker_of
from mlops_lab.bootstrap.founding import found
from mlops_lab.data.label import OUTCOMES, join
from mlops_lab.data.prediction import PREDICTIONS
from mlops_lab.events import CONTROL, FEEDBACK, Message
from mlops_lab.events.dead import dead_letters
from mlops_lab.events.on_kafka_topics import ensure_topics
from mlops_lab.pipelines.feedback import GROUP, awaited, take_in_feedback
from mlops_lab.pipelines.handlers import TRAINING, WATCHING
from mlops_lab.pipelines.ship import ship
from mlops_lab.pipelines.worker import Worker, settled
from shipping_builders import answers, write

DIE = Path(__file__).parents[1] / "feedback_and_die.py"


@pytest.fixture
def lab(tmp_path: Path, kafka: str, topic_prefix: str) -> Iterator[KafkaLab]:
    lab = on_kafka(tmp_path / "home", kafka, topic_prefix)
    ensure_topics(broker_of(lab.settings.events))
    found(lab)
    yield lab
    lab.bus.close()  # type: ignore[attr-defined]


def events(lab: KafkaLab) -> list[str]:
    lab.shipper  # noqa: B018  declares the table
    return sorted(lab.tables.read(OUTCOMES)["event_id"])


def test_the_outcomes_of_all_partitions_are_taken_in_once(lab: KafkaLab) -> None:
    lab.bus.publish(FEEDBACK, map(a_report, range(60)))
    used = [lab.bus.head(FEEDBACK, partition) for partition in range(lab.bus.partitions(FEEDBACK))]

    assert len([head for head in used if head]) > 3
    assert awaited(lab) == 60
    assert take_in_feedback(lab) == 60
    assert take_in_feedback(lab) == take_in_feedback(lab.again()) == 0
    assert events(lab) == sorted(f"v{number}" for number in range(60))
    assert [lab.bus.committed(GROUP, FEEDBACK, partition) for partition in range(len(used))] == used


def test_an_id_that_a_broker_took_twice_counts_once(lab: KafkaLab) -> None:
    for _ in range(2):
        lab.bus.publish(FEEDBACK, [a_report(1)])
    write(lab.home, answers(1))
    ship(lab)
    take_in_feedback(lab)
    found = join(lab.tables.read(PREDICTIONS), lab.tables.read(OUTCOMES), REPORTED_AT + timedelta(days=60))

    assert events(lab) == ["v1", "v1"]
    assert (len(found.rows), found.repeated, found.conflicting) == (1, 1, 0)


def test_what_is_no_outcome_does_not_hold_up_its_partition(lab: KafkaLab) -> None:
    lab.bus.publish(FEEDBACK, [a_report(1), nonsense(1), a_report(1, event_id="v1-corrected", revision=1)])

    assert take_in_feedback(lab) == 2
    (lying,) = dead_letters(lab.bus, FEEDBACK)
    assert (lying.letter.reason, lying.letter.offset) == ("malformed_data", 2)
    assert awaited(lab) == 0


def test_what_is_killed_at_random_moments_gives_every_outcome_once(tmp_path: Path, kafka: str, topic_prefix: str) -> None:
    home = tmp_path / "home"
    lab = on_kafka(home, kafka, topic_prefix)
    ensure_topics(broker_of(lab.settings.events))
    run = subprocess.run(
        [sys.executable, str(DIE), str(home), "5", "3", kafka, topic_prefix], capture_output=True, text=True, check=False, timeout=300
    )
    assert run.returncode == 0, run.stderr
    said = json.loads(run.stdout)
    good = [number for number in range(said["reported"]) if number % 5 != 4]

    assert said["killed"] == 5
    assert events(lab) == sorted(f"v{number}" for number in good)
    assert len(dead_letters(lab.bus, FEEDBACK)) == said["reported"] - len(good)
    lab.bus.close()  # type: ignore[attr-defined]


def test_a_topic_that_was_made_anew_is_taken_in_from_its_beginning(lab: KafkaLab) -> None:
    lab.bus.publish(FEEDBACK, [a_report(1), a_report(1, event_id="v1-again", revision=1)])
    take_in_feedback(lab)
    events_on = lab.settings.events
    admin, name = AdminClient({"bootstrap.servers": events_on.kafka}), f"{events_on.prefix}{FEEDBACK}"
    admin.delete_topics([name])[name].result(timeout=30)
    lab.bus.close()  # type: ignore[attr-defined]
    again = lab.again()
    ensure_topics(broker_of(events_on))
    again.bus.publish(FEEDBACK, [a_report(1, event_id="v1-anew", revision=2)])

    assert take_in_feedback(again) == 1
    assert events(again) == ["v1", "v1-again", "v1-anew"]
    again.bus.close()  # type: ignore[attr-defined]


def test_all_is_settled_when_orders_are_done_and_outcomes_are_in_their_table(lab: KafkaLab) -> None:
    def work() -> None:
        for duty in (WATCHING, TRAINING):
            Worker(lab, duty).step()

    while not settled(lab):
        work()
    lab.bus.publish(FEEDBACK, [a_report(1)])
    assert not settled(lab)
    lab.bus.publish(CONTROL, [Message("ClockReached", REPORTED_AT, "clock", {}, id="tick")])
    assert not settled(lab)
    while not settled(lab):
        work()

    assert events(lab) == ["v1"]
