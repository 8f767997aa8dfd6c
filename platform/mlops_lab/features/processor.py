"""The stream processor: facts from the bus become rows of the online table. It keeps no state on disk.

Rows are a function of the set of facts, so each effect can be repeated: rows are written, then how far they go, then the group's offsets
are committed, and a death anywhere in between repeats what the next start finds undone.
"""

import logging
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta

from mlops_lab.clock import Clock
from mlops_lab.errors import BusReplaced, MessageUnreadable
from mlops_lab.events import OBSERVATIONS, REFERENCES, Delivery, EventBus
from mlops_lab.events.schema import EventTypes
from mlops_lab.features.intake import Counts, Intake
from mlops_lab.features.rows import Progress, RowRef, RowState, RowWriter
from mlops_lab.features.shard import Shard
from mlops_lab.features.stream import CHUNK, Recent, Stretch, onwards

TOPICS = (REFERENCES, OBSERVATIONS)  # a reference that was published before an observation is known with it
WINDOW = timedelta(hours=36)
_LOOK_EVERY_S = 1.0

_log = logging.getLogger(__name__)


class Processor:
    """Used from one thread. After an error of a service `step` is called again: nothing is lost and nothing is read past it."""

    def __init__(
        self,
        bus: EventBus,
        types: EventTypes,
        new_state: Callable[[], RowState],
        writer: RowWriter,
        clock: Clock,
        *,
        lateness: timedelta = timedelta(minutes=10),
        shard: Shard | None = None,
    ) -> None:
        """Args:
        bus: Where facts travel.
        types: What events have to be.
        new_state: Makes an empty fold.
        writer: Where rows go.
        clock: Wall time.
        lateness: How far in event time a fact may be behind the newest one and still count as in time.
        shard: Which rows are ours; None for all.
        """
        self._bus, self._new_state, self._writer, self._clock = bus, new_state, writer, clock
        self._shard = shard or Shard()
        self._state = new_state()
        self._intake = Intake(bus, types, clock, lateness)
        self._epoch = uuid.uuid4().hex
        self._offsets: dict[str, list[int]] = {}
        self._waiting: dict[RowRef, bytes] = {}
        self._wrote: Progress | None = None
        self._unwritten = self._uncommitted = False
        self._looked_at = 0.0
        self._rewrite_began: float | None = None
        self.rewritten = self.rewritten_rows = self.rewritten_ms = 0
        """How often all rows were written anew; how many the last time, and how long that took."""

    @property
    def group(self) -> str:
        """The consumer group that remembers the offsets."""
        return self._shard.group

    @property
    def epoch(self) -> str:
        """What tells this processor's writes from those of another."""
        return self._epoch

    @property
    def counts(self) -> Counts:
        return self._intake.counts

    @property
    def wrote(self) -> Progress | None:
        """What is in the store, as far as this processor knows; None before its first write."""
        return self._wrote

    def lag(self) -> dict[str, list[int]]:
        """By topic, how many events of each partition are not in rows yet. Raises BusUnreachable."""
        return {
            topic: [max(0, self._bus.head(topic, partition) - offset) for partition, offset in enumerate(offsets)]
            for topic, offsets in self._offsets.items()
        }

    def step(self) -> int:
        """Take in up to a thousand events of each partition and write what they change.

        Returns:
            How many events were passed, be it into rows, as too late, or to the dead letters.

        Raises:
            BusUnreachable: The bus does not answer.
            FeatureStoreUnreachable: Rows are waiting to be written.
        """
        if not self._offsets:
            self._start()
        self._finish()
        self._look()
        passed = 0
        ended = set()
        try:
            for topic in TOPICS:
                for partition in range(len(self._offsets[topic])):
                    found = self._take(topic, partition)
                    passed += found
                    if not found:
                        ended.add((topic, partition))
            self._advance(ended)
        except BusReplaced:
            self._offsets, self._unwritten = {}, False  # they mean nothing on the other bus: the next step begins anew
            raise
        finally:
            if self._unwritten:
                self._write(self._state.changed())
        return passed

    def rewrite(self) -> int:
        """Write all rows anew, whatever the store holds. Returns how many. Raises as `step`."""
        if not self._offsets:
            self._start()
        self._rewrite_began = time.monotonic()
        self._state.changed()
        self._write(self._state.rows())
        return self.rewritten_rows

    def rebuild(self) -> int:
        """Fold the whole log anew, up to what was committed, and write all rows. Returns how many. Raises as `step`."""
        self._start(whole=True)
        return self.rewrite()

    def by_view(self) -> Mapping[str, int]:
        """How many rows there are of each kind."""
        return Counter(ref.view for ref in self._state.refs() if self._shard.has(ref))

    def _start(self, whole: bool = False) -> None:
        """Fold the facts that rows are made of already, or the whole log up to there, then see what of them the store holds."""
        began = time.monotonic()
        self._offsets, self._waiting, self._unwritten, self._uncommitted = {}, {}, False, False
        self._state = self._new_state()
        self._intake.begin(self._state)
        offsets = {topic: [self._committed(topic, partition) for partition in range(self._bus.partitions(topic))] for topic in TOPICS}
        for partition, offset in enumerate(offsets[REFERENCES]):
            for stretch in onwards(self._bus, REFERENCES, 0, offset, partition):
                self._intake.again(REFERENCES, stretch.deliveries)
        for partition, offset in enumerate(offsets[OBSERVATIONS]):
            for stretch in onwards(self._bus, OBSERVATIONS, 0, offset, partition) if whole else self._recent(offset, partition):
                self._intake.again(OBSERVATIONS, stretch.deliveries)
        self._state.changed()
        self._wrote = self._writer.progress()
        if not _holds(self._wrote, offsets):
            self._waiting = {ref: row for ref, row in self._state.rows().items() if self._shard.has(ref)}
            self._rewrite_began = began if self._waiting else None
        same = self._wrote is not None and self._wrote.offsets == {topic: tuple(each) for topic, each in offsets.items()}
        self._intake.resume(self._wrote.watermark_s if self._wrote and same else 0)
        self._offsets = offsets
        duration_ms = round((time.monotonic() - began) * 1000)
        _log.info("features.started", extra={"offsets": offsets, "duration_ms": duration_ms, "rows_to_write": len(self._waiting)})

    def _recent(self, offset: int, partition: int) -> list[Stretch]:
        def counts(delivery: Delivery) -> bool:
            return self._intake.would_take(OBSERVATIONS, delivery)

        return Recent(self._bus, OBSERVATIONS, offset, WINDOW, partition, counts).read()

    def _committed(self, topic: str, partition: int) -> int:
        """Where to go on; from the beginning in a topic that was made anew."""
        committed = self._bus.committed(self._shard.group, topic, partition)
        return committed if committed <= self._bus.head(topic, partition) else 0

    def _look(self) -> None:
        """A store that says another thing than we wrote last was emptied, put back, or written by somebody else. Offsets that were set
        back ask for a replay."""
        now = time.monotonic()
        if now - self._looked_at < _LOOK_EVERY_S:
            return
        if any(self._bus.committed(self._shard.group, topic, partition) < offset for topic, partition, offset in self._each()):
            _log.warning("features.replayed", extra={"group": self._shard.group})
            self._start()
            self._finish()
        if self._wrote is not None and self._writer.progress() != self._wrote:
            self._uncommitted = True
            self._finish()
        self._looked_at = now

    def _advance(self, ended: set[tuple[str, int]]) -> None:
        """Move the watermark on; where it moves without a new fact, that is worth a write too."""
        before = self._intake.watermark_s
        self._intake.passed([(OBSERVATIONS, partition) for partition in range(len(self._offsets[OBSERVATIONS]))], ended)
        self._unwritten |= self._intake.watermark_s != before

    def _take(self, topic: str, partition: int) -> int:
        after = self._offsets[topic][partition]
        try:
            found = self._bus.read(topic, after, CHUNK, partition)
        except MessageUnreadable as error:
            self._intake.bury_unreadable(topic, lambda: self._bus.read(topic, after, 1, partition), error)
            self._offsets[topic][partition], self._unwritten = error.offset, True
            return 1
        for number, delivery in enumerate(found, 1):
            self._intake.take(topic, delivery, found[number:])
            self._unwritten = True
            self._offsets[topic][partition] = delivery.offset
        return len(found)

    def _write(self, rows: Mapping[RowRef, bytes]) -> None:
        self._waiting.update((ref, row) for ref, row in rows.items() if self._shard.has(ref))
        self._unwritten, self._uncommitted = False, True
        self._finish()

    def _finish(self) -> None:
        """Write what waits, say how far it goes, commit.

        First comes a look at the store: behind our own progress nobody would find any more that it was emptied since the last one.
        """
        if self._waiting or self._uncommitted:
            if self._writer.progress() != self._wrote:
                self._begin_anew()
            offsets = {topic: tuple(each) for topic, each in self._offsets.items()}
            progress = Progress(offsets, self._intake.watermark_s, self._clock.now().timestamp(), self._epoch)
            self._writer.write(self._waiting, progress)
            if self._rewrite_began is not None:
                self._told_rewrite(len(self._waiting), self._rewrite_began)
            self._waiting, self._wrote = {}, progress
            for topic, partition, offset in self._each():
                self._bus.commit(self._shard.group, topic, offset, partition)
            self._uncommitted = False

    def _begin_anew(self) -> None:
        _log.warning("features.store_changed", extra={"next": "all rows are written anew"})
        self._rewrite_began = time.monotonic()
        self._state.changed()
        self._waiting = {ref: row for ref, row in self._state.rows().items() if self._shard.has(ref)}

    def _told_rewrite(self, rows: int, began: float) -> None:
        self.rewritten_rows, self.rewritten_ms = rows, round((time.monotonic() - began) * 1000)
        self.rewritten += 1
        self._rewrite_began = None
        _log.info("features.rewritten", extra={"rows": rows, "duration_ms": self.rewritten_ms})

    def _each(self) -> Iterator[tuple[str, int, int]]:
        for topic, offsets in self._offsets.items():
            for partition, offset in enumerate(offsets):
                yield topic, partition, offset


def _holds(said: Progress | None, offsets: Mapping[str, list[int]]) -> bool:
    """Whether a store holds the rows up to these offsets, or further."""
    if said is None:
        return not any(any(each) for each in offsets.values())
    return all(
        len(said.offsets.get(topic, ())) == len(each) and all(has >= wanted for has, wanted in zip(said.offsets[topic], each, strict=True))
        for topic, each in offsets.items()
    )
