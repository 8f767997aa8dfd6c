"""From rounds to figures: rates, percentiles, and ratios as the median over rounds with the smallest and the largest."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from benchmarks.serving.load import Load


@dataclass(frozen=True)
class Round:
    """One server under one load.

    Attributes:
        per_s: Replies per second.
        p50_ms: Median latency.
        p99_ms: Latency that 99 % of the replies do not exceed.
        cpu_us: Processor time of the server per reply.
        server_share: Of the server's core, what the server used.
        idle_share: Of the server's core, what nobody used: near 0 the load has saturated it.
        others_share: Of the server's core, what neither is: kernel work for the network, and strangers.
        load_share: Of the load's core, what the load used.
        requests: Replies counted.
    """

    per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    server_share: float
    idle_share: float
    others_share: float
    load_share: float
    requests: int

    @classmethod
    def of(cls, load: Load, server_cpu_s: float, core_idle_s: float) -> "Round":
        """Args:
        load: What came back.
        server_cpu_s: Processor seconds of the server meanwhile.
        core_idle_s: Seconds that its core was idle meanwhile.

        Raises:
            ValueError: Nothing came back.
        """
        done = len(load.latencies_s)
        if not done:
            raise ValueError("a round without a reply has no figures")
        return cls(
            per_s=done / load.wall_s,
            p50_ms=percentile(load.latencies_s, 0.50) * 1e3,
            p99_ms=percentile(load.latencies_s, 0.99) * 1e3,
            cpu_us=server_cpu_s / done * 1e6,
            server_share=server_cpu_s / load.wall_s,
            idle_share=core_idle_s / load.wall_s,
            others_share=max(0.0, 1 - (server_cpu_s + core_idle_s) / load.wall_s),
            load_share=load.cpu_s / load.wall_s,
            requests=done,
        )


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values does not exceed (nearest rank).

    Raises:
        ValueError: No values, or a share outside (0, 1].
    """
    if not values or not 0 < share <= 1:
        raise ValueError(f"no percentile {share} of {len(values)} values")
    ordered = sorted(values)
    rank = -(-len(ordered) * round(share * 10_000) // 10_000)
    return ordered[int(rank) - 1]


@dataclass(frozen=True)
class Spread:
    """A figure over rounds."""

    median: float
    smallest: float
    largest: float
    rounds: tuple[float, ...]

    @classmethod
    def over(cls, values: Sequence[float]) -> "Spread":
        """Raises ValueError without values."""
        if not values:
            raise ValueError("a figure needs at least one round")
        return cls(median(values), min(values), max(values), tuple(values))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Ours over theirs, round by round: neighbours in time share the machine's mood, so the ratio is steadier than either.

    Raises:
        ValueError: There are no rounds, or not equally many.
    """
    return Spread.over([a / b for a, b in zip(ours, theirs, strict=True)])


@dataclass(frozen=True)
class Goal:
    """A figure to reach.

    Attributes:
        key: Its name in the result file.
        what: In words.
        reach: The bound.
        stretch: A bound beyond, where there is one.
        at_most: Smaller is better.
        unit: Behind the number.
    """

    key: str
    what: str
    reach: float
    stretch: float | None = None
    at_most: bool = False
    unit: str = "times"

    def reached(self, value: float) -> bool:
        return value <= self.reach if self.at_most else value >= self.reach

    def stretched(self, value: float) -> bool | None:
        if self.stretch is None:
            return None
        return value <= self.stretch if self.at_most else value >= self.stretch


GOALS = (
    Goal("ratio_to_mlflow_c8", "answers per second at 8 connections, to `mlflow models serve`", 60, 100),
    Goal("ratio_to_echo_c8", "answers per second at 8 connections, to the FastAPI echo", 1.3, 2),
    Goal("p99_to_echo_c8", "p99 at 8 connections, to the FastAPI echo's", 1, at_most=True),
    Goal("batch64_to_mlflow", "batches of 64 rows per second, to `mlflow models serve`", 15, 30),
    Goal("first_answer_to_mlflow", "first answer after process start, to `mlflow models serve`'s", 0.15, at_most=True),
    Goal("rss_mib", "resident memory after load", 150, at_most=True, unit="MiB"),
    Goal("scorer_us", "scorer, one row in process", 60, at_most=True, unit="µs"),
    Goal("shadow_to_default_c8", "answers per second with a shadow on 10 % of the requests, to none", 0.9),
)
