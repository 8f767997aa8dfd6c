"""What the service counts while it answers: plain numbers, turned into metrics only when somebody asks.

Labels are bounded: routes and statuses are few, versions are the ones that served since the start, at most `MOST_VERSIONS` of them.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping

LATENCY_BOUNDS_S = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Upper bounds of the latency buckets; one more bucket takes what is slower."""
AGE_BOUNDS_S = (300.0, 900.0, 3600.0, 10_800.0, 21_600.0, 86_400.0)
"""Upper bounds of the feature age buckets, event time; one more takes what is older."""
SCORE_BUCKETS = 20
MOST_VERSIONS = 50

Answerer = tuple[str, int]
"""Variant and version that answered; version 0 stands for all beyond `MOST_VERSIONS`."""


class Histogram:
    """Counts by bucket, and the sum of what was counted."""

    __slots__ = ("buckets", "sum")

    def __init__(self, bounds: int) -> None:
        self.buckets = [0] * (bounds + 1)
        self.sum = 0.0


class Counts:
    """Counted from one thread.

    Attributes:
        replies: By route and status.
        rows: Answered rows by variant and version, and purpose.
        latencies: Of `/v1/predict`, by variant and version: from a request's last byte to its reply.
        feedback: The same of `/v1/feedback`.
        scores: Probabilities in `SCORE_BUCKETS` equal buckets, by variant and version.
        ages: Ages of the first row's features, by source.
        unknown: How often a source had nothing.
        states: Answered rows by what the stream was worth to them (`features.policy.STATES`).
        replayed: Requests answered from their idempotency key.
        turned_away: Requests that met a full queue, and connections that met a full house.
    """

    __slots__ = ("ages", "feedback", "latencies", "replayed", "replies", "rows", "scores", "states", "turned_away", "unknown")

    def __init__(self) -> None:
        self.replies: Counter[tuple[str, int]] = Counter()
        self.rows: Counter[tuple[str, int, str]] = Counter()
        self.latencies: dict[Answerer, Histogram] = {}
        self.feedback = Histogram(len(LATENCY_BOUNDS_S))
        self.scores: dict[Answerer, Histogram] = {}
        self.ages: dict[str, Histogram] = {}
        self.unknown: Counter[str] = Counter()
        self.states: Counter[str] = Counter()
        self.replayed = 0
        self.turned_away: Counter[str] = Counter()

    def answerer(self, variant: str, version: int) -> Answerer:
        """The key to count under."""
        key = (variant, version)
        if key not in self.latencies:
            if len(self.latencies) >= MOST_VERSIONS:
                key = (variant, 0)
            self.latencies.setdefault(key, Histogram(len(LATENCY_BOUNDS_S)))
            self.scores.setdefault(key, Histogram(SCORE_BUCKETS - 1))
        return key

    def took(self, answerer: Answerer | None, seconds: float) -> None:
        """One request was answered; None stands for feedback that was taken."""
        histogram = self.feedback if answerer is None else self.latencies[answerer]
        histogram.buckets[bisect_left(LATENCY_BOUNDS_S, seconds)] += 1
        histogram.sum += seconds

    def scored(self, answerer: Answerer, probability: float) -> None:
        """One row was answered with this probability."""
        histogram = self.scores[answerer]
        histogram.buckets[min(int(probability * SCORE_BUCKETS), SCORE_BUCKETS - 1)] += 1
        histogram.sum += probability

    def aged(self, ages_s: Mapping[str, float | None]) -> None:
        """How old the facts behind one row were."""
        for source, age_s in ages_s.items():
            if age_s is None:
                self.unknown[source] += 1
                continue
            histogram = self.ages.get(source)
            if histogram is None:
                histogram = self.ages[source] = Histogram(len(AGE_BOUNDS_S))
            histogram.buckets[bisect_left(AGE_BOUNDS_S, age_s)] += 1
            histogram.sum += age_s
