"""Metrics that a process counts anyway, sent every few seconds. Nothing is counted twice: what is sent is what a scrape would read."""

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import isfinite
from typing import NamedTuple, Protocol

_log = logging.getLogger(__name__)


class Sample(Protocol):
    """One number of a family, as Prometheus's client gives it."""

    @property
    def name(self) -> str: ...
    @property
    def labels(self) -> Mapping[str, str]: ...
    @property
    def value(self) -> float: ...


class Family(Protocol):
    """All numbers of one name. `type` is counter, gauge or histogram; others are left out."""

    @property
    def name(self) -> str: ...
    @property
    def documentation(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def samples(self) -> Sequence[Sample]: ...


class Buckets(NamedTuple):
    """A histogram: how many fell below each bound but not below the one before, the last without a bound; and the sum of all."""

    labels: Mapping[str, str]
    bounds: Sequence[float]
    counts: Sequence[int]
    sum: float


def numbers(family: Family) -> list[tuple[Mapping[str, str], float]]:
    """Labels and value of each number of a counter or gauge; what is unknown (NaN) is left out."""
    wanted = {family.name, f"{family.name}_total"}
    return [(each.labels, float(each.value)) for each in family.samples if each.name in wanted and isfinite(each.value)]


def histograms(family: Family) -> list[Buckets]:
    """The histograms of a family, by their labels. Prometheus's buckets hold those before them, too; these do not."""
    found: dict[tuple[tuple[str, str], ...], dict[float, int]] = {}
    sums: dict[tuple[tuple[str, str], ...], float] = {}
    for each in family.samples:
        key = tuple(sorted((name, value) for name, value in each.labels.items() if name != "le"))
        if each.name == f"{family.name}_bucket":
            found.setdefault(key, {})[float(each.labels["le"])] = int(each.value)
        elif each.name == f"{family.name}_sum":
            sums[key] = each.value
    made = []
    for key, below in found.items():
        bounds = sorted(below)
        counts = [below[bound] - (below[bounds[i - 1]] if i else 0) for i, bound in enumerate(bounds)]
        made.append(Buckets(dict(key), bounds[:-1], counts, sums.get(key, 0.0)))
    return made


class MetricsSender:
    """Sends what `collect` gives, on a thread of its own. What is lost is made good by the next sending, since counters go on."""

    def __init__(
        self, collect: Callable[[], Iterable[Family]], make: Callable[[], Callable[[Sequence[Family]], bool]], every_s: float = 15.0
    ) -> None:
        """Args:
        collect: What a scrape would call.
        make: Gives what sends them and says whether somebody took them; both may raise, both are called by the thread.
        every_s: Pause between two sendings.
        """
        self._collect = collect
        self._make = make
        self._send: Callable[[Sequence[Family]], bool] | None = None
        self._every_s = every_s
        self._stop = threading.Event()
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="telemetry-metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Send no more."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            why = "it was not taken"
            try:
                if self._send is None:
                    self._send = self._make()
                sent = self._send(list(self._collect()))
            except Exception as error:
                sent, why = False, repr(error)
            if sent == self._failing:  # said when it begins and when it ends
                self._failing = not sent
                if sent:
                    _log.info("telemetry.sent_again", extra={"what": "metrics"})
                else:
                    _log.warning("telemetry.not_sent", extra={"what": "metrics", "why": why})
