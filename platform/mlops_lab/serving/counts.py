"""What the service counts while it answers: plain numbers, turned into metrics only when somebody asks."""

from bisect import bisect_left
from collections import Counter

LATENCY_BOUNDS_S = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Upper bounds of the latency buckets; one more bucket takes what is slower."""


class Counts:
    """Counted from one thread. `replies` by route and status, `rows` by model version and purpose, latencies of `/v1/predict`."""

    __slots__ = ("latencies", "latency_sum_s", "replies", "rows")

    def __init__(self) -> None:
        self.replies: Counter[tuple[str, int]] = Counter()
        self.rows: Counter[tuple[int, str]] = Counter()
        self.latencies = [0] * (len(LATENCY_BOUNDS_S) + 1)
        self.latency_sum_s = 0.0

    def took(self, seconds: float) -> None:
        """One request for predictions was worked on this long, from its last byte to its encoded answer."""
        self.latencies[bisect_left(LATENCY_BOUNDS_S, seconds)] += 1
        self.latency_sum_s += seconds
