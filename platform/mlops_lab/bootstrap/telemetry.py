"""Where the traces, log lines and metrics of a process go, as the settings say."""

import logging
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from mlops_lab.errors import SettingsWrong
from mlops_lab.settings import TelemetrySettings
from mlops_lab.telemetry import OFF, Span, Spans
from mlops_lab.telemetry.log_lines import Line, LineHandler, trace_ids
from mlops_lab.telemetry.metrics import Family, MetricsSender
from mlops_lab.telemetry.queue import Queue
from mlops_lab.telemetry.span import Attribute
from mlops_lab.telemetry.span_file import SpanFile


def spans_of(said: TelemetrySettings, process: str, instance: str = "") -> Spans:
    """Who makes the spans of this process.

    Args:
        said: The settings.
        process: `inference`, `watcher`, ...: the `service.name`.
        instance: Of several of that name; empty for the name of the machine.

    Raises:
        SettingsWrong: OpenTelemetry is not installed, or the headers cannot be read.
    """
    if said.otlp and "traces" in said.signals:
        headers, resource = _ready(said), resource_of(process, instance)

        def spans_out() -> Callable[[Sequence[Span]], bool]:
            from mlops_lab.telemetry.on_otlp import OtlpSpans

            return OtlpSpans(said.otlp, headers, said.timeout_s, resource).send

        queue = Queue("spans", spans_out)
        return Spans(queue.put, said.sample, lambda: queue.dropped)
    if said.folder is not None and not said.otlp:
        file = SpanFile(said.folder / f"{'-'.join(filter(None, (process, instance)))}.jsonl", resource_of(process, instance))
        return Spans(file.put, said.sample, lambda: file.dropped)
    return OFF


def send_logs(said: TelemetrySettings, process: str, instance: str = "") -> None:
    """Send this process's log records, too, and write the ids of their trace into all of them. Called once, after `log_to_stderr`.

    Raises:
        SettingsWrong: See `spans_of`.
    """
    root = logging.getLogger()
    for handler in root.handlers:
        handler.addFilter(trace_ids)
    if not said.otlp or "logs" not in said.signals:
        return
    headers, resource = _ready(said), resource_of(process, instance)

    def lines_out() -> Callable[[Sequence[Line]], bool]:
        from mlops_lab.telemetry.on_otlp import OtlpLines

        return OtlpLines(said.otlp, headers, said.timeout_s, resource).send

    root.addHandler(LineHandler(Queue("logs", lines_out).put))


def send_metrics(
    said: TelemetrySettings, process: str, instance: str, collect: Callable[[], Iterable[Family]], every_s: float = 15.0
) -> MetricsSender | None:
    """Send this process's metrics, too, if the settings ask for it.

    Args:
        said: The settings.
        process: See `spans_of`.
        instance: See `spans_of`.
        collect: What a scrape would call.
        every_s: Pause between two sendings.

    Raises:
        SettingsWrong: See `spans_of`.
    """
    if not said.otlp or "metrics" not in said.signals:
        return None
    headers, resource = _ready(said), resource_of(process, instance)

    def metrics_out() -> Callable[[Sequence[Family]], bool]:
        from mlops_lab.telemetry.on_otlp import OtlpMetrics

        return OtlpMetrics(said.otlp, headers, said.timeout_s, resource).send

    return MetricsSender(collect, metrics_out, every_s)


def resource_of(process: str, instance: str = "") -> dict[str, Attribute]:
    """Who speaks, by OpenTelemetry's names."""
    from importlib.metadata import PackageNotFoundError, version  # late: its parser costs every start some milliseconds

    try:
        released = version("mlops-lab")
    except PackageNotFoundError:  # run from its sources
        released = "unknown"
    return {
        "service.namespace": "mlops-lab",
        "service.name": process,
        "service.instance.id": instance or socket.gethostname(),
        "service.version": released,
    }


def _ready(said: TelemetrySettings) -> Mapping[str, str]:
    """The headers, once it is sure that something can be sent at all."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        version("opentelemetry-exporter-otlp-proto-http")
    except PackageNotFoundError as error:
        raise SettingsWrong(
            "LAB_TELEMETRY__OTLP is set, but OpenTelemetry's exporter is not installed.",
            "install the package with its extra `telemetry`, or unset the variable.",
        ) from error
    return {} if said.headers_file is None else headers_in(said.headers_file)


def headers_in(path: Path) -> dict[str, str]:
    """The headers in a file, `name: value` a line; empty lines and those that begin with # are left out. Raises SettingsWrong."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsWrong(
            f"LAB_TELEMETRY__HEADERS_FILE: {path} cannot be read: {error}.", "correct the path, or let this process's user read it."
        ) from error
    headers = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, colon, value = line.partition(":")
        if not colon or not name.strip() or not value.strip():
            raise SettingsWrong(f"LAB_TELEMETRY__HEADERS_FILE: line {number} of {path} is no header.", "write it as `name: value`.")
        headers[name.strip().lower()] = value.strip()
    return headers
