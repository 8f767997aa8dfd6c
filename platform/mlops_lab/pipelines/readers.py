"""Who reads which topics, and what it does with events that it is given once more."""

from collections.abc import Sequence
from dataclasses import dataclass

from mlops_lab.bootstrap import Lab
from mlops_lab.bootstrap.chosen import chosen
from mlops_lab.bootstrap.services import FEATURES, TRAINER, WATCHER
from mlops_lab.events import CONTROL, FEEDBACK, OBSERVATIONS, REFERENCES, EventBus


@dataclass(frozen=True, slots=True)
class Reader:
    """One kind of reader.

    Attributes:
        group: Its consumer group; shards of one have names that begin with it.
        topics: What it reads.
        again: What reading events once more means, as the end of a sentence.
        service: The service of `lab up` that it is.
    """

    group: str
    topics: tuple[str, ...]
    again: str
    service: str


READERS = (
    Reader(
        FEATURES,
        (OBSERVATIONS, REFERENCES),
        "folds the same facts into the same rows and writes them anew; no fact counts twice",
        FEATURES,
    ),
    Reader(WATCHER, (CONTROL,), "takes up each fact and order again; what was decided or done already stays as it is", WATCHER),
    Reader(TRAINER, (CONTROL,), "takes up each order again; a version that is there is not trained anew", TRAINER),
    Reader("feedback", (FEEDBACK,), "goes on from what the table of outcomes has, whatever its progress says", WATCHER),
)
UNKNOWN = "does again whatever it does; the platform does not know it"


def reader_of(group: str) -> Reader | None:
    """The kind of a group, shards included; None where it is not ours."""
    return next((each for each in READERS if group == each.group or group.startswith(f"{each.group}-")), None)


def groups_of(lab: Lab, topic: str) -> Sequence[str]:
    """The groups that have read of a topic, and those that are to and have not begun. Raises BusUnreachable."""
    begun = lab.bus.groups(topic)
    known = [reader_of(group) for group in begun]
    folded = chosen(lab.settings).store != "process"  # else replicas read the facts themselves, and there is no processor
    expected = [each for each in READERS if topic in each.topics and (each.group != FEATURES or folded)]
    return [*begun, *(each.group for each in expected if each not in known)]


def lag(bus: EventBus, group: str, topic: str) -> int:
    """How many events of a topic a group has still to take. Raises BusUnreachable."""
    return sum(max(0, bus.head(topic, number) - bus.committed(group, topic, number)) for number in range(bus.partitions(topic)))
