"""A stream processor on facts of flights, run until nothing is left to do."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from mlops_lab.clock import FixedClock
from mlops_lab.events import Message
from mlops_lab.events.schema import EventTypes
from mlops_lab.features.in_memory import MemoryRows
from mlops_lab.features.processor import Processor
from mlops_lab.features.rows import RowRef
from mlops_lab.features.shard import Shard
from mlops_lab.flights.online_usecase import FlightsOnline
from stream_builders import rows_of

TYPES = EventTypes(FlightsOnline.event_types)
NOW = FixedClock(datetime(2026, 1, 1, tzinfo=UTC))


def a_processor(bus: Any, store: Any, shard: Shard | None = None, **how: Any) -> Processor:
    return Processor(bus, TYPES, FlightsOnline().row_state, store, NOW, shard=shard, **how)


def alive(store: MemoryRows, facts: Sequence[Message]) -> Mapping[RowRef, bytes]:
    """The rows to which the last hours gave something: all that there is of the others is not read again after a restart."""
    return {ref: store.held[ref] for ref in rows_of([fact for fact in facts if fact.at > facts[-1].at - timedelta(hours=11)])}


def run(processor: Processor) -> Processor:
    while processor.step():
        pass
    return processor
