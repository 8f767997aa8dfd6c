"""The loop's numbers as a Prometheus page, served by a worker on a thread of its own."""

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from mlops_lab.bootstrap import Lab
from mlops_lab.errors import LabError
from mlops_lab.pipelines.measured import COUNTER, DESCRIBED, PREFIX, Sample, measure

KEEP_S = 10.0
"""How long one reading of the ledger serves all who ask: more often nothing changes, and a page costs tens of milliseconds."""

log = logging.getLogger(__name__)


class LoopMetrics(Collector):
    """Reads the ledger when it is scraped; what cannot be read is missing from the page, and `lab_loop_readable` is 0.

    Args:
        lab: Used by nobody else: pages are asked for from other threads.
        workers: Whose signs of life are told.
        keep_s: See `KEEP_S`.
    """

    def __init__(self, lab: Lab, workers: Sequence[str], keep_s: float = KEEP_S) -> None:
        self._lab, self._workers, self._keep_s = lab, tuple(workers), keep_s
        self._lock = threading.Lock()
        self._samples: list[Sample] = []
        self._read_at = -keep_s

    def describe(self) -> list[Metric]:
        """Nothing, so that nothing is read before somebody asks."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Called by the registry."""
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for sample in self._known():
            kind, meaning, labels = DESCRIBED[sample.name]
            family = families.get(sample.name)
            if family is None:
                name = PREFIX + sample.name.removesuffix("_total")
                made = CounterMetricFamily if kind == COUNTER else GaugeMetricFamily
                family = families[sample.name] = made(name, meaning, labels=labels)
            family.add_metric(sample.labels, float(sample.value))
        yield from families.values()

    def _known(self) -> list[Sample]:
        with self._lock:
            if time.monotonic() - self._read_at >= self._keep_s:
                try:
                    self._samples = [*measure(self._lab, self._workers), Sample("readable", 1)]
                except LabError as error:
                    log.warning("metrics.unreadable", extra={"why": error.what, "next": error.next_step})
                    self._samples = [Sample("readable", 0)]
                self._read_at = time.monotonic()
            return self._samples


def serve(lab: Lab, workers: Sequence[str], host: str, port: int) -> WSGIServer:
    """Answer `GET /metrics` from now on. Raises OSError where the address is taken."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(LoopMetrics(lab, workers))
    ProcessCollector(registry=registry)
    server, _ = start_http_server(port, host, registry)
    return server
