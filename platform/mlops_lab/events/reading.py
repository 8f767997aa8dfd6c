"""A partition from one offset to its end, with what cannot be read in its place."""

from collections.abc import Iterator

from mlops_lab.errors import MessageUnreadable
from mlops_lab.events.port import Delivery, Topics

_CHUNK = 500


def everything(
    bus: Topics, topic: str, partition: int = 0, after: int = 0, until: int | None = None
) -> Iterator[Delivery | MessageUnreadable]:
    """All that lies behind an offset, up to another one, else up to where the partition ends at the time of the last look.

    Raises:
        BusUnreachable: The bus does not answer.
    """
    while until is None or after < until:
        try:
            found = bus.read(topic, after, _CHUNK, partition)
        except MessageUnreadable as error:
            if until is None or error.offset <= until:
                yield error
            after = error.offset
            continue
        if not found:
            return
        for delivery in found:
            after = delivery.offset
            if until is not None and after > until:
                return
            yield delivery
