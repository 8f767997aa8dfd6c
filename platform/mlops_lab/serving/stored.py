"""Features from the rows of an online store: read when a request asks for them, missing when the store does not give them in time."""

import logging
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from time import monotonic, perf_counter

from mlops_lab.clock import Clock, iso
from mlops_lab.errors import FeatureStoreUnreachable
from mlops_lab.features import Ask, OnlineFeatures
from mlops_lab.features.rows import Progress, Reading, RowReader, RowRef
from mlops_lab.features.view import FeatureRow
from mlops_lab.serving.counts import Histogram
from mlops_lab.serving.dependency import Dependency

READ_BOUNDS_S = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Upper bounds of the buckets of a reading's time; one more takes what is slower."""

_IDLE_S = 0.4

_log = logging.getLogger(__name__)


class StoredFeatures:
    """Implements `FeatureSource`, and `RowReader` for the use case: one that gives no rows while the store is down.

    Attributes:
        took: How long readings took that the store answered.
        failed: Readings that it did not answer, by reason; `down` for those that did not ask because it was down.
        rows: Rows asked for, by what came: `found`, `missing` (there is none, or the store was down), `unusable` (there is another thing).
    """

    def __init__(self, reader: RowReader, from_rows: Callable[[RowReader], OnlineFeatures], where: str, clock: Clock) -> None:
        """Args:
        reader: Reads the store, with a deadline.
        from_rows: Of the use case.
        where: The store's address without secrets.
        clock: Wall time.
        """
        self._reader = reader
        self._online = from_rows(self)
        self._where = where
        self._clock = clock
        self._progress: Progress | None = None
        self._read_at = -_IDLE_S
        self.trouble: str | None = None
        self.took = Histogram(len(READ_BOUNDS_S))
        self.failed: Counter[str] = Counter()
        self.rows: Counter[str] = Counter()

    @property
    def watermark_s(self) -> int | None:
        return self._progress.watermark_s if self._progress is not None and self._progress.watermark_s > 0 else None

    def catch_up(self) -> None:
        """Between requests, ask how far the stream is: so `/readyz` knows of a store that went away while nobody asked."""
        if monotonic() - self._read_at >= _IDLE_S:
            self.read(())

    def read_many(self, asks: Sequence[Ask]) -> Sequence[FeatureRow]:
        return self._online.read_many(asks)

    def read(self, wanted: Sequence[RowRef]) -> Reading:
        began = perf_counter()
        self._read_at = monotonic()
        try:
            reading = self._reader.read(wanted)
        except FeatureStoreUnreachable as error:
            self._lost(error, wanted)
            return Reading([None] * len(wanted), None)
        seconds = perf_counter() - began
        self.took.buckets[bisect_left(READ_BOUNDS_S, seconds)] += 1
        self.took.sum += seconds
        missing = sum(row is None for row in reading.rows) - reading.unusable
        counted = self.rows
        counted["found"] += len(wanted) - missing - reading.unusable
        counted["missing"] += missing
        counted["unusable"] += reading.unusable
        self._progress = reading.progress
        if self.trouble is not None:
            self.trouble = None
            _log.info("serving.features_found", extra={"store": self._where})
        return reading

    def progress(self) -> Progress | None:
        """See RowReader; None while the store is down, too."""
        return self.read(()).progress

    def dependency(self) -> Dependency:
        """`ok`, `down`, or `empty` for a store that no processor has written to."""
        progress = self._progress
        facts: dict[str, int | float | str | None] = {"store": self._where}
        if self.trouble is not None:
            return Dependency("features", "down", self.trouble, facts)
        if progress is None:
            return Dependency("features", "empty", "no processor has written to it: `lab up`, or `lab features status`.", facts)
        watermark_s = self.watermark_s
        facts["watermark"] = None if watermark_s is None else iso(datetime.fromtimestamp(watermark_s, UTC))
        facts["written_at"] = iso(datetime.fromtimestamp(progress.written_at_s, UTC))
        facts["written_age_s"] = round(self._clock.now().timestamp() - progress.written_at_s, 3)
        return Dependency("features", "ok", "", facts)

    @property
    def written_at_s(self) -> float | None:
        """Wall time of the last write that was seen, Unix seconds."""
        return None if self._progress is None else self._progress.written_at_s

    def _lost(self, error: FeatureStoreUnreachable, wanted: Sequence[RowRef]) -> None:
        self.failed["down" if error.unasked else error.reason] += 1
        self.rows["missing"] += len(wanted)
        self._progress = None
        if self.trouble is None:
            _log.error("serving.features_lost", extra={"store": self._where, "reason": error.reason, "why": error.what})
        self.trouble = error.what
