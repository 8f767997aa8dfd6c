"""The loop's numbers as a Prometheus page, served by a worker on a thread of its own."""

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from mlops_lab.bootstrap import Lab
from mlops_lab.deadline import Aside, TooLate
from mlops_lab.errors import LabError
from mlops_lab.pipelines.measured import COUNTER, DESCRIBED, PARTS, PREFIX, Sample

KEEP_S = 10.0
"""How long one reading serves all who ask: more often nothing changes, and a page costs tens of milliseconds."""
PART_S, PAGE_S = 2.0, 5.0
"""How long one part is waited for, and all of them: Prometheus gives a page up after 8 s, and would take the watcher for down."""

log = logging.getLogger(__name__)


class Trouble(NamedTuple):
    """Why a part could not be read, and what to do."""

    why: str
    next_step: str


class LoopMetrics(Collector):
    """Reads ledger, bus and home when it is scraped, each part on a thread of its own. The numbers of a part that cannot be read, or does
    not answer in time, are missing from the page, and its `lab_loop_readable` is 0; those of the others are there.

    Args:
        lab: Used by nobody else: pages are asked for from other threads.
        workers: Whose signs of life are told.
        keep_s: See `KEEP_S`.
        part_s: See `PART_S`.
    """

    def __init__(self, lab: Lab, workers: Sequence[str], keep_s: float = KEEP_S, part_s: float = PART_S) -> None:
        self._lab, self._workers, self._keep_s, self._part_s = lab, tuple(workers), keep_s, part_s
        self._lock = threading.Lock()
        self._asides = {part: Aside(f"numbers-{part}") for part in PARTS}
        self._trouble: dict[str, Trouble] = {}
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
                until = time.monotonic() + PAGE_S
                self._samples = [sample for part in PARTS for sample in self._read(part, until)]
                self._read_at = time.monotonic()
            return self._samples

    def _read(self, part: str, until: float) -> list[Sample]:
        patience_s = max(0.0, min(self._part_s, until - time.monotonic()))
        try:
            found = self._asides[part].call(lambda: self._attempt(part), patience_s)
        except TooLate as error:
            found = Trouble(str(error), "`lab status` looks at it.")
        if isinstance(found, Trouble):
            if part not in self._trouble:  # once, and not at each page
                log.warning("metrics.unreadable", extra={"part": part, "why": found.why, "next": found.next_step})
            self._trouble[part] = found
            return [Sample("readable", 0, (part,))]
        if self._trouble.pop(part, None) is not None:
            log.info("metrics.readable_again", extra={"part": part})
        return [*found, Sample("readable", 1, (part,))]

    def _attempt(self, part: str) -> "list[Sample] | Trouble":
        """On the part's own thread. What was raised ends here, too: a client of Kafka may hang on it, whose end takes seconds."""
        try:
            return list(PARTS[part](self._lab, self._workers))
        except LabError as error:
            return Trouble(error.what, error.next_step)
        except OSError as error:
            return Trouble(str(error), "`lab status` looks at it.")
        except Exception as error:  # a fault of ours, or of something strange in a record: the other parts are told all the same
            if part not in self._trouble:
                log.exception("metrics.broken", extra={"part": part})
            return Trouble(repr(error), "see the traceback.")


def serve(numbers: LoopMetrics, host: str, port: int) -> WSGIServer:
    """Answer `GET /metrics` from now on. Raises OSError where the address is taken."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(numbers)
    ProcessCollector(registry=registry)
    server, _ = start_http_server(port, host, registry)
    return server
