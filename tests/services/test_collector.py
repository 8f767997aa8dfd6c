"""The stack's own configuration in a real collector: what comes in is in its files, and with whoever one variable names."""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from missing_part import missing
from mlops_lab.bootstrap.telemetry import spans_of
from mlops_lab.settings import TelemetrySettings
from mlops_lab.telemetry import Spans, TraceContext
from otlp_receiver import Receiver
from trace_evidence import Seen, spans_in
from waiting import until

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "platform" / "deploy" / "otel" / "collector.yaml"
STACK: dict[str, Any] = yaml.safe_load((ROOT / "platform" / "deploy" / "compose" / "stack.yaml").read_text())
CALLER = TraceContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")


@dataclass(frozen=True)
class Collector:
    """One that runs: where it listens, and its folder."""

    address: str
    folder: Path

    def seen(self) -> list[Seen]:
        return spans_in([self.folder / "spans.jsonl"])


@pytest.fixture(scope="session")
def program(addresses: dict[str, str]) -> str:
    found = addresses.get("LAB_TEST_OTELCOL", "")
    if not found or not os.access(found, os.X_OK):
        missing("No OpenTelemetry collector is named.", "download or build one, and name the program by LAB_TEST_OTELCOL=/path/to/otelcol.")
    return found


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def as_compose_sets_it(**given: str) -> dict[str, str]:
    """The variables of the collector's container, where a person sets these."""
    said: dict[str, str] = STACK["services"]["otel-collector"]["environment"]
    shell = {"PATH": os.environ["PATH"], **given}
    # What compose puts in place of ${A:-b} and ${A:+b} is what a shell puts there.
    return {name: subprocess.check_output(["sh", "-c", f'printf %s "{value}"'], env=shell, text=True) for name, value in said.items()}


@contextmanager
def collecting(program: str, folder: Path, headers: str = "{}\n", **given: str) -> Iterator[Collector]:
    """The collector of the stack, on ports of its own."""
    folder.mkdir()
    (folder / "headers.yaml").write_text(headers)
    config = yaml.safe_load(CONFIG.read_text())
    ports = {name: free_port() for name in ("grpc", "http", "metrics")}
    for protocol in ("grpc", "http"):
        config["receivers"]["otlp"]["protocols"][protocol]["endpoint"] = f"127.0.0.1:{ports[protocol]}"
    config["service"]["telemetry"]["metrics"]["readers"] = [
        {"pull": {"exporter": {"prometheus": {"host": "127.0.0.1", "port": ports["metrics"]}}}}
    ]
    del config["extensions"], config["service"]["extensions"]  # for who looks after the container; a small collector lacks it
    (folder / "collector.yaml").write_text(yaml.safe_dump(config))
    env = as_compose_sets_it(**given) | {"TRACES_FOLDER": str(folder), "OTLP_HEADERS": str(folder / "headers.yaml")}
    with (folder / "log").open("w") as log:
        running = subprocess.Popen([program, "--config", str(folder / "collector.yaml")], env=env, stdout=log, stderr=log)
    try:
        until(lambda: listens(ports["http"]) or running.poll() is not None)
        assert running.poll() is None, (folder / "log").read_text()
        yield Collector(f"http://127.0.0.1:{ports['http']}", folder)
    finally:
        running.send_signal(signal.SIGTERM)
        running.wait(20)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def to(collector: Collector) -> Spans:
    return spans_of(TelemetrySettings(otlp=collector.address), "watcher", "one")


def test_what_comes_in_is_in_the_file_as_it_was_sent(program: str, tmp_path: Path) -> None:
    with collecting(program, tmp_path / "otel") as collector:
        spans = to(collector)
        with spans.span("watch window", links=[CALLER], attributes={"lab.window": "2013-W17"}) as made:
            pass
        until(collector.seen)
        (seen,) = collector.seen()

    assert made is not None
    assert (seen.service, seen.name, seen.trace, seen.id) == ("watcher", "watch window", made.context.trace_id, made.context.span_id)
    assert (seen.links, seen.attributes) == (((CALLER.trace_id, CALLER.span_id),), {"lab.window": "2013-W17"})
    assert (seen.start_ns, seen.end_ns) == (made.start_ns, made.end_ns)
    assert spans.dropped == 0


@pytest.mark.parametrize(("variable", "paths"), [("OTLP_EXPORT", {"/v1/traces", "/v1/metrics"}), ("OTLP_EXPORT_TRACES", {"/v1/traces"})])
def test_one_variable_names_who_else_gets_it(program: str, tmp_path: Path, variable: str, paths: set[str]) -> None:
    vendor = Receiver()
    with collecting(program, tmp_path / "otel", headers="x-api-key: a vendor's\n", **{variable: vendor.address}) as collector:
        spans = to(collector)
        with spans.span("by hand"):
            pass
        metric = {"name": "answers", "sum": {"aggregationTemporality": 2, "isMonotonic": True, "dataPoints": [{"asInt": "5"}]}}
        post(collector, "/v1/metrics", {"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]})
        until(lambda: {path for path, *_ in vendor.requests} >= paths and collector.seen())
    vendor.close()  # behind the collector, which sends at its end whatever a batch still holds

    assert {path for path, *_ in vendor.requests} == paths
    assert {headers["x-api-key"] for _, headers, _ in vendor.requests} == {"a vendor's"}
    assert [(service, name) for service, name, *_ in vendor.spans()] == [("watcher", "by hand")]
    assert [span.name for span in collector.seen()] == ["by hand"]


def test_a_vendor_that_is_down_keeps_nothing_out_of_the_file(program: str, tmp_path: Path) -> None:
    with collecting(program, tmp_path / "otel", OTLP_EXPORT=f"http://127.0.0.1:{free_port()}") as collector:
        spans = to(collector)
        for number in range(20):
            with spans.span(f"work {number}"):
                pass
        until(lambda: len(collector.seen()) == 20)
    assert spans.dropped == 0


def post(collector: Collector, path: str, said: dict[str, Any]) -> None:
    import json
    import urllib.request

    request = urllib.request.Request(
        collector.address + path, json.dumps(said).encode(), {"content-type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=5) as answer:
        assert answer.status == 200
