"""The service's counts as Prometheus metrics, in the text format."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from mlops_lab.serving.counts import LATENCY_BOUNDS_S
from mlops_lab.serving.service import Service

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics(Collector):
    """Reads a service when it is scraped; nothing is counted twice."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def text(self) -> bytes:
        """The whole page."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Called by the registry."""
        counts, parts = self._service.counts, self._service.parts
        replies = CounterMetricFamily("lab_serving_replies", "Replies by route and HTTP status.", labels=("route", "status"))
        for (route, status), number in list(counts.replies.items()):
            replies.add_metric((route, str(status)), number)
        yield replies
        rows = CounterMetricFamily("lab_serving_predictions", "Answered rows by model version and purpose.", labels=("version", "purpose"))
        for (version, purpose), number in list(counts.rows.items()):
            rows.add_metric((str(version), purpose), number)
        yield rows
        total, buckets = 0, []
        for bound, number in zip((*map(str, LATENCY_BOUNDS_S), "+Inf"), counts.latencies, strict=True):
            total += number
            buckets.append((bound, total))
        what = "Work on an answered request, from its last byte to its encoded answer."
        yield HistogramMetricFamily("lab_serving_predict_seconds", what, buckets=buckets, sum_value=counts.latency_sum_s)
        loaded, known_at = parts.slot.current, parts.follower.known_at
        yield GaugeMetricFamily("lab_serving_model_version", "The version that answers, 0 for none.", value=loaded.version if loaded else 0)
        age = (parts.clock.now() - known_at).total_seconds() if known_at else float("nan")
        yield GaugeMetricFamily("lab_serving_ledger_knowledge_age_seconds", "Since the ledger was last heard.", value=age)
        yield CounterMetricFamily("lab_serving_model_swaps", "Times a model was put in place.", value=parts.follower.swaps)
        yield CounterMetricFamily("lab_serving_facts_applied", "Facts taken in from the bus.", value=parts.facts.applied)
        yield CounterMetricFamily("lab_serving_facts_refused", "Facts that could not be understood.", value=parts.facts.refused)
        trouble = GaugeMetricFamily("lab_serving_trouble", "1 while a part is degraded.", labels=("part",))
        for part, why in (("ledger", parts.follower.trouble), ("bus", parts.facts.trouble), ("log", parts.log.trouble)):
            trouble.add_metric((part,), why is not None)
        yield trouble
