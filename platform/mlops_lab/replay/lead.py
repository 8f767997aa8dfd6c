"""Facts ahead of the questions, where a stream processor stands between the bus and the service.

What is published counts for an answer once the processor has written it. Waiting for that each minute of event time would be slow, so the
facts of a span are published together and waited for once. Reads are point-in-time, so an answer does not see what lies ahead of it.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from itertools import groupby
from typing import Any

from mlops_lab.events import OBSERVATIONS, REFERENCES, EventBus
from mlops_lab.features.rows import Progress

SPAN = timedelta(minutes=45)
"""How far facts may be ahead. Rows hold all that a question needs whose moment lies up to an hour behind their newest fact."""


class Lead:
    """Knows whether all that was published is in the rows."""

    def __init__(self, bus: EventBus, progress: Callable[[], Progress | None], span: timedelta = SPAN) -> None:
        """Args:
        bus: Where facts travel.
        progress: What stands beside the rows.
        span: See `SPAN`.
        """
        self._bus = bus
        self._progress = progress
        self.span = span

    def taken_in(self) -> bool:
        """Whether every fact that was published before this call is in the rows.

        Raises:
            BusUnreachable, FeatureStoreUnreachable: It cannot be told.
        """
        topics = (OBSERVATIONS, REFERENCES)
        waits = self._bus.waiting().keys() & set(topics)
        # The broker is asked although something waits: it may be away for longer than anybody waits for a processor.
        heads = {topic: [self._bus.head(topic, each) for each in range(self._bus.partitions(topic))] for topic in topics}
        if waits:
            return False
        said = self._progress()
        if said is None:
            return not any(any(each) for each in heads.values())
        return all(
            len(said.offsets.get(topic, ())) == len(each) and all(has >= head for has, head in zip(said.offsets[topic], each, strict=True))
            for topic, each in heads.items()
        )

    def spans(self, steps: Iterable[Any]) -> Iterator[list[Any]]:
        """Steps in order of time, in groups whose facts may be published together."""
        for _, group in groupby(steps, key=lambda step: int(step.at.timestamp()) // int(self.span.total_seconds())):
            yield list(group)
