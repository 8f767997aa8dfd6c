"""One trace from a request to its outcome, and a chain of linked ones from a decision to the swap."""

import socket
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from feedback_builders import a_report
from mlops_lab.bootstrap.founding import found
from mlops_lab.bootstrap.telemetry import send_metrics, spans_of
from mlops_lab.clock import FixedClock
from mlops_lab.errors import NotEnoughData, ServiceError
from mlops_lab.events import ANSWERS, CONTROL, FEEDBACK, Message, relay
from mlops_lab.events.topics import ALL_TOPICS
from mlops_lab.events.wire import encode
from mlops_lab.pipelines import on_prometheus, worker
from mlops_lab.pipelines.feedback import take_in_feedback
from mlops_lab.pipelines.handlers import TRAINING, WATCHING, handle
from mlops_lab.pipelines.ship import ship
from mlops_lab.pipelines.worker import Worker, settled
from mlops_lab.registry.ledger import TRACE
from mlops_lab.scoring.keys import KeyRing
from mlops_lab.scoring.scorer import Scorer
from mlops_lab.serving.cache import PackageCache
from mlops_lab.serving.follower import Follower
from mlops_lab.serving.known import KnownFile
from mlops_lab.serving.loaded import Slot
from mlops_lab.settings import MetricsSettings, TelemetrySettings
from mlops_lab.telemetry import Kind, Span, Spans, TraceContext
from mlops_lab.telemetry.book import TraceBook
from mlops_lab.telemetry.metrics import Family, MetricsSender
from otlp_receiver import Receiver
from parcel_builders import FEATURES, week
from pipeline_builders import NOW, SmallLab, a_training, established, serve, small_numbers
from shipping_builders import TRACE as REQUEST
from shipping_builders import answers, feedback, write
from trace_evidence import decisions_to_swaps, requests_to_outcomes, spans_in

REPORTER = TraceContext("1" * 32, "2" * 16)


class Recorded(Spans):
    """Spans that are kept in a list."""

    def __init__(self) -> None:
        self.ended: list[Span] = []
        super().__init__(self.ended.append, 1.0)

    def named(self, name: str) -> list[Span]:
        return [span for span in self.ended if span.name == name]


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    with small_numbers():
        yield


@pytest.fixture
def lab(tmp_path: Path) -> SmallLab:
    lab = SmallLab(tmp_path / "home")
    lab.spans = Recorded()
    found(lab)
    return lab


def recorded(lab: SmallLab) -> Recorded:
    assert isinstance(lab.spans, Recorded)
    return lab.spans


def test_a_traced_answer_is_told_in_its_trace_and_its_outcome_ends_it(lab: SmallLab) -> None:
    write(lab.home, answers(1, trace=REQUEST), answers(2), feedback(1, 2) | {"trace": REPORTER.traceparent})

    ship(lab)

    request = TraceContext.parse(REQUEST)
    assert request is not None
    (publish,) = recorded(lab).named("publish PredictionsAnswered")
    (outcome,) = recorded(lab).named("take in outcome")
    assert {(span.context.trace_id, span.parent) for span in (publish, outcome)} == {(request.trace_id, request.span_id)}
    assert (publish.kind, outcome.kind, outcome.links) == (Kind.PRODUCER, Kind.CONSUMER, (REPORTER,))
    assert outcome.attributes["lab.prediction_id"] == "p1"
    first, second = (delivery.message for delivery in lab.bus.read(ANSWERS, 0))
    assert (first.traceparent, second.traceparent) == (REQUEST, "")


def test_on_kafka_the_trace_is_a_header_of_the_record(lab: SmallLab) -> None:
    write(lab.home, answers(1, trace=REQUEST), answers(2))
    ship(lab)
    traced, untraced = encode(ALL_TOPICS[ANSWERS], [delivery.message for delivery in lab.bus.read(ANSWERS, 0)])
    assert dict(traced.headers)["traceparent"] == REQUEST.encode()
    assert "traceparent" not in dict(untraced.headers)


def test_an_outcome_from_the_bus_ends_the_trace_too_also_in_another_process(lab: SmallLab) -> None:
    write(lab.home, answers(1, 2, trace=REQUEST), answers(3))
    ship(lab)
    later = lab.again()
    later.spans = Recorded()
    reports = [a_report(1), replace(a_report(2), traceparent=REPORTER.traceparent), a_report(3)]
    later.bus.publish(FEEDBACK, reports)

    take_in_feedback(later)

    ended = recorded(later).named("take in outcome")
    assert [(span.attributes["lab.prediction_id"], span.links) for span in ended] == [("p1", ()), ("p2", (REPORTER,))]
    assert {span.context.trace_id for span in ended} == {REQUEST[3:35]}


def test_a_trace_that_its_caller_does_not_sample_is_carried_on_and_not_recorded(lab: SmallLab) -> None:
    write(lab.home, answers(1, trace=REQUEST[:-1] + "0"), feedback(1))
    ship(lab)
    assert recorded(lab).ended == []
    assert [delivery.message.traceparent for delivery in lab.bus.read(ANSWERS, 0)] == [REQUEST[:-1] + "0"]


def test_a_book_of_traces_that_is_damaged_keeps_no_outcome_back(lab: SmallLab) -> None:
    (lab.home / "traces.db").write_bytes(b"this is no database" * 1000)
    write(lab.home, answers(1, trace=REQUEST), feedback(1))
    assert ship(lab) == 2


def test_a_book_of_traces_forgets_the_oldest(tmp_path: Path) -> None:
    book = TraceBook(tmp_path / "traces.db", most=3)
    assert book.find(["p1"]) == {}
    for number in range(5):
        book.note({f"p{number}": TraceContext(f"{number + 1:032x}", "2" * 16)})
    assert sorted(book.find(f"p{number}" for number in range(5))) == ["p2", "p3", "p4"]
    assert book.find(["p4"])["p4"].trace_id == f"{5:032x}"


def test_a_book_of_traces_that_another_process_holds_refuses_as_a_file_does(tmp_path: Path) -> None:
    """Open it can be, and read while somebody writes: what refuses is the writing itself."""
    path = tmp_path / "traces.db"
    book = TraceBook(path, patience_s=0.01)
    book.note({"p1": REPORTER})

    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(OSError, match="locked"):
            book.note({"p2": REPORTER})
        assert book.find(["p1", "p2"]) == {"p1": REPORTER}
    book.note({"p2": REPORTER})

    assert book.find(["p1", "p2"]) == {"p1": REPORTER, "p2": REPORTER}


def test_a_book_of_traces_whose_rows_are_damaged_refuses_as_a_file_does(tmp_path: Path) -> None:
    path = tmp_path / "traces.db"
    book = TraceBook(path)
    book.note({f"p{number}": REPORTER for number in range(1000)})
    content = path.read_bytes()
    path.write_bytes(content[:4096] + bytes(len(content) - 4096))  # its head says that it is a database

    for call in (lambda: book.find(["p1"]), lambda: book.note({"new": REPORTER})):
        with pytest.raises(OSError, match=r"traces\.db"):
            call()


def test_a_book_of_traces_that_is_held_keeps_no_answer_back(lab: SmallLab) -> None:
    lab.trace_book = TraceBook(lab.home / "traces.db", patience_s=0.01)
    lab.trace_book.note({"p0": REPORTER})
    write(lab.home, answers(1, trace=REQUEST), feedback(1))

    with closing(sqlite3.connect(lab.home / "traces.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert ship(lab) == 2

    assert [delivery.message.traceparent for delivery in lab.bus.read(ANSWERS, 0)] == [REQUEST]


def test_an_order_is_a_trace_of_its_own_linked_to_what_gave_it_and_shows_its_failure(lab: SmallLab) -> None:
    given = replace(a_training(week(7).start).to_message("test"), traceparent=REPORTER.traceparent)

    with recorded(lab).span("whoever calls"):
        handle(given, lab, TRAINING)  # nothing was taken in yet, so it fails

    (span,) = recorded(lab).named("carry out TrainModel")
    assert (span.links, span.parent, span.kind) == ((REPORTER,), "", Kind.CONSUMER)
    assert span.context.trace_id != REPORTER.trace_id
    assert span.error.startswith(NotEnoughData.__name__)
    (step,) = recorded(lab).named("gather rows")
    assert (step.context.trace_id, step.parent, step.error[:13]) == (span.context.trace_id, span.context.span_id, "NotEnoughData")


def test_from_the_decision_to_the_swap_one_trace_leads_to_the_next(tmp_path: Path) -> None:
    lab = established(tmp_path / "home")
    folder = tmp_path / "traces"
    lab.spans = spans_of(TelemetrySettings(folder=folder), "worker")
    slot, replica = Slot(), spans_of(TelemetrySettings(folder=folder), "inference", "replica-1")
    cache = PackageCache(tmp_path / "cache", lab.packages, KeyRing(lab.keys))
    names = [feature.name for feature in FEATURES]
    follower = Follower(
        lab.ledger, cache, KnownFile(tmp_path / "known.json"), slot, Scorer.from_bytes, names, FixedClock(NOW), spans=replica
    )
    follower.step()
    for number in range(7, 12):
        serve(lab, week(number), turned=True)
        watcher, trainer = Worker(lab, WATCHING), Worker(lab, TRAINING)
        lab.bus.publish(CONTROL, [Message("ClockReached", week(number).closes_at, "clock", {})])
        while not settled(lab):
            watcher.step()
            trainer.step()
        follower.step()
    relay(lab.outbox, lab.bus)

    assert slot.current is not None
    assert slot.current.version == 3
    spans = spans_in(folder.iterdir())
    (chain,) = decisions_to_swaps(spans)
    assert (chain.window, chain.swapped.service, chain.swapped.attributes["lab.model_version"]) == ("2013-W10", "inference", "3")
    assert len({chain.decided.trace, chain.trained.trace, chain.swapped.trace}) == 3
    assert chain.decided.end_ns <= chain.trained.start_ns <= chain.promoted.end_ns <= chain.swapped.end_ns
    steps = [span.name for span in spans if span.trace == chain.trained.trace]
    assert {"gather rows", "fit, export, measure", "register version", "judge version", "promote version"} <= set(steps)
    refused = [span for span in spans if span.name == "carry out TrainModel" and span.trace != chain.trained.trace]
    assert len(refused) == 1  # week 8's: it led to no promotion
    assert [fact.subject for fact in lab.ledger.facts(TRACE)] == ["2"]
    assert lab.ledger.unaccounted() == []
    assert lab.trail.verify() is None


def test_where_nothing_is_recorded_the_ledger_and_the_bus_say_nothing_of_traces(tmp_path: Path) -> None:
    lab = established(tmp_path / "home")
    relay(lab.outbox, lab.bus)
    assert lab.ledger.facts(TRACE) == []
    assert lab.ledger.standing().traces == {}
    assert {delivery.message.traceparent for delivery in lab.bus.read(CONTROL, 0)} == {""}


def test_evidence_is_asked_for_all_of_a_chain(tmp_path: Path) -> None:
    """A link that leads nowhere, or an outcome of another prediction, is no evidence."""
    spans = spans_of(TelemetrySettings(folder=tmp_path), "worker")
    with spans.span("POST /v1/predict", attributes={"lab.prediction_id": "p1"}):
        for name in ("write prediction log", "publish PredictionsAnswered"):
            with spans.span(name):
                pass
        with spans.span("take in outcome", attributes={"lab.prediction_id": "p2"}):
            pass
    with spans.span("swap model", links=[REPORTER]):
        pass
    seen = spans_in(tmp_path.iterdir())
    assert len(seen) == 5
    assert (requests_to_outcomes(seen), decisions_to_swaps(seen)) == ([], [])


def test_the_loops_numbers_go_out_by_otlp_from_the_watcher(lab: SmallLab, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver = Receiver()
    lab.settings = lab.settings.model_copy(update={"telemetry": TelemetrySettings(otlp=receiver.address)})
    asked: list[MetricsSender | None] = []

    def at_once(said: TelemetrySettings, process: str, instance: str, collect: Callable[[], Iterable[Family]]) -> None:
        assert process == "watcher"
        asked.append(send_metrics(said, process, instance, collect, every_s=0.05))

    monkeypatch.setattr(worker, "send_metrics", at_once)
    worker._tell_numbers(lab, TRAINING)
    assert asked == []
    worker._tell_numbers(lab, WATCHING)
    ends = monotonic() + 15
    while not receiver.requests and monotonic() < ends:
        sleep(0.02)
    assert asked[0] is not None
    asked[0].close()
    receiver.close()

    path, _, body = receiver.requests[0]
    assert path == "/v1/metrics"
    (resource,) = ExportMetricsServiceRequest.FromString(body).resource_metrics
    assert {each.value.string_value for each in resource.resource.attributes if each.key == "service.name"} == {"watcher"}
    found = {each.name: each for scope in resource.scope_metrics for each in scope.metrics}
    assert {point.as_double for point in found["lab_loop_readable"].gauge.data_points} == {1.0}


def test_the_page_and_what_goes_out_are_one_reading(lab: SmallLab, monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"telemetry": TelemetrySettings(otlp="http://127.0.0.1:9"), "metrics": MetricsSettings(port=9101)}
    lab.settings = lab.settings.model_copy(update=said)
    sent: list[Any] = []
    served: list[Any] = []
    monkeypatch.setattr(worker, "send_metrics", lambda *args: sent.append(args[-1].__self__))
    monkeypatch.setattr(on_prometheus, "serve", lambda numbers, host, port: served.append((numbers, host, port)))

    worker._tell_numbers(lab, WATCHING)

    assert served == [(sent[0], "127.0.0.1", 9101)]
    assert isinstance(sent[0], on_prometheus.LoopMetrics)


def test_a_port_that_is_taken_is_told(lab: SmallLab) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        lab.settings = lab.settings.model_copy(update={"metrics": MetricsSettings(port=taken.getsockname()[1])})
        with pytest.raises(ServiceError, match="in use"):
            worker._tell_numbers(lab, WATCHING)
