"""The service's counts as Prometheus metrics, in the text format."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import nan
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from mlops_lab.errors import LabError
from mlops_lab.features.policy import STATES
from mlops_lab.serving.counts import AGE_BOUNDS_S, LATENCY_BOUNDS_S, SCORE_BUCKETS, Histogram
from mlops_lab.serving.facts import FactStream
from mlops_lab.serving.service import Service
from mlops_lab.serving.shipped import all_bytes, noted, unshipped_bytes
from mlops_lab.serving.source import FeatureSource
from mlops_lab.serving.stored import READ_BOUNDS_S, StoredFeatures

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
        labels = ("variant", "version", "purpose")
        rows = CounterMetricFamily("lab_serving_predictions", "Answered rows by variant, model version and purpose.", labels=labels)
        for (variant, version, purpose), number in list(counts.rows.items()):
            rows.add_metric((variant, str(version), purpose), number)
        yield rows
        what = "From a request's last byte to its reply."
        yield _histogram("lab_serving_predict_seconds", what, ("variant", "version"), LATENCY_BOUNDS_S, counts.latencies)
        yield _histogram("lab_serving_feedback_seconds", what, (), LATENCY_BOUNDS_S, {(): counts.feedback})
        bounds = [(i + 1) / SCORE_BUCKETS for i in range(SCORE_BUCKETS - 1)]
        yield _histogram("lab_serving_probability", "Answered probabilities.", ("variant", "version"), bounds, counts.scores)
        what = "Event-time age of the newest fact used, of the first row of each request."
        ages = {(source,): histogram for source, histogram in counts.ages.items()}
        yield _histogram("lab_serving_feature_age_seconds", what, ("source",), AGE_BOUNDS_S, ages)
        unknown = CounterMetricFamily("lab_serving_features_unknown", "First rows for which a source knew nothing.", labels=("source",))
        for source, number in list(counts.unknown.items()):
            unknown.add_metric((source,), number)
        yield unknown
        what = "Answered rows by what the stream of facts was worth to them: fresh, stale or absent."
        worth = CounterMetricFamily("lab_serving_feature_states", what, labels=("state",))
        for state in STATES:
            worth.add_metric((state,), counts.states[state])
        yield worth
        away = CounterMetricFamily("lab_serving_turned_away", "Met a full queue or too many connections.", labels=("what",))
        for what_was_full, number in list(counts.turned_away.items()):
            away.add_metric((what_was_full,), number)
        yield away
        yield CounterMetricFamily("lab_serving_replayed", "Requests answered from their idempotency key.", value=counts.replayed)
        what = "Spans of traces that could not be handed on: nobody took them, or too many waited."
        yield CounterMetricFamily("lab_telemetry_spans_dropped", what, value=parts.spans.dropped)
        what = "Rows that the shadow was too slow to score."
        yield CounterMetricFamily("lab_serving_shadow_left_out", what, value=parts.predictor.shadow.left_out)
        folder = parts.log.directory
        what = "Prediction log on this replica's disk, with what is shipped and stays; NaN where its folder cannot be read."
        yield GaugeMetricFamily("lab_serving_log_bytes", what, value=_known(lambda: all_bytes(folder)))
        what = "Size of the prediction log at which predictions are refused until something of it is shipped."
        yield GaugeMetricFamily("lab_serving_log_limit_bytes", what, value=parts.log.limit_bytes)
        what = "Bytes of the prediction log that are not shipped; NaN where its folder or the shipper's note cannot be read."
        yield GaugeMetricFamily("lab_serving_log_backlog_bytes", what, value=_known(lambda: unshipped_bytes(folder, noted(folder))))
        loaded = parts.slot.current
        yield GaugeMetricFamily("lab_serving_model_version", "The version that answers, 0 for none.", value=loaded.version if loaded else 0)
        assigned = loaded.assigned_at.timestamp() if loaded else nan
        what = "Event time at which the version that answers was assigned."
        yield GaugeMetricFamily("lab_serving_model_assigned_timestamp_seconds", what, value=assigned)
        age_s = nan if parts.follower.knowledge_age_s is None else parts.follower.knowledge_age_s
        yield GaugeMetricFamily("lab_serving_ledger_knowledge_age_seconds", "Since the ledger was last heard.", value=age_s)
        yield CounterMetricFamily("lab_serving_model_swaps", "Times a model was put in place.", value=parts.follower.swaps)
        yield from _source(parts.source)
        calls = CounterMetricFamily("lab_serving_ledger_calls", "Looks at the ledger, by how they ended.", labels=("ended",))
        calls.add_metric(("answered",), parts.follower.calls - parts.follower.failed_calls)
        calls.add_metric(("failed",), parts.follower.failed_calls)
        yield calls
        states = GaugeMetricFamily("lab_serving_dependency", "1 for the state that each dependency is in.", labels=("name", "state"))
        for each in self._service.condition.dependencies():
            states.add_metric((each.name, each.state), 1)
        yield states


def _source(source: FeatureSource) -> Iterator[Metric]:
    """How features are had; which figures there are depends on where they come from."""
    watermark_s = nan if source.watermark_s is None else source.watermark_s
    what = "Event time up to which facts are in, but for late ones; NaN where it is unknown."
    yield GaugeMetricFamily("lab_serving_features_watermark_timestamp_seconds", what, value=watermark_s)
    if isinstance(source, FactStream):
        yield CounterMetricFamily("lab_serving_facts_applied", "Facts taken in from the bus.", value=source.applied)
        yield CounterMetricFamily("lab_serving_facts_refused", "Facts that could not be understood.", value=source.refused)
    elif isinstance(source, StoredFeatures):
        what = "How long the online store took for all rows of a turn; a read that failed is not among them."
        yield _histogram("lab_serving_feature_read_seconds", what, (), READ_BOUNDS_S, {(): source.took})
        what = "Readings that got no rows, by reason; down: not asked, it did not answer before."
        failed = CounterMetricFamily("lab_serving_feature_read_failures", what, labels=("reason",))
        for reason, number in list(source.failed.items()):
            failed.add_metric((reason,), number)
        yield failed
        rows = CounterMetricFamily("lab_serving_feature_rows", "Rows asked of the online store, by what came.", labels=("came",))
        for came in ("found", "missing", "unusable"):
            rows.add_metric((came,), source.rows[came])
        yield rows
        written_at_s = nan if source.written_at_s is None else source.written_at_s
        what = "Wall time of the last write to the online store that was seen; NaN for none."
        yield GaugeMetricFamily("lab_serving_features_written_timestamp_seconds", what, value=written_at_s)


def _known(look: Callable[[], float]) -> float:
    try:
        return look()
    except (OSError, LabError):
        return nan


def _histogram(
    name: str, what: str, labels: Sequence[str], bounds: Sequence[float], found: Mapping[tuple[Any, ...], Histogram]
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, what, labels=labels)
    for key, histogram in list(found.items()):
        total, buckets = 0, []
        for bound, number in zip((*map(str, bounds), "+Inf"), list(histogram.buckets), strict=True):
            total += number
            buckets.append((bound, total))
        family.add_metric([str(part) for part in key], buckets=buckets, sum_value=histogram.sum)
    return family
