"""From the replicas' prediction logs to where each frame belongs: tables, bus, audit trail. Cheap to call often; each effect is there once.

The order is table, bus, ledger, then the note how far it came. A death in between repeats what the note does not cover, and each of the
three knows what it has: tables by the position in the log, the bus by the id of a message, the ledger by the subject of an incident.
Positions are noted under the name of the log (see `log_name`), never of the replica alone: its disk may have been lost.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from time import time_ns
from typing import TYPE_CHECKING

from mlops_lab.bootstrap import Lab
from mlops_lab.durable import sync_directory
from mlops_lab.errors import StoreUnreachable
from mlops_lab.events import ANSWERS
from mlops_lab.pipelines.answered import answered
from mlops_lab.pipelines.incidents import Incidents
from mlops_lab.pipelines.traced import Reported, taken_in, told
from mlops_lab.serving.prediction_log import Position, drop_segments, read_frames
from mlops_lab.serving.segments import log_id, log_name
from mlops_lab.serving.shipped import remember_shipped, shipped_to

if TYPE_CHECKING:  # pandas comes with it: not for who only asks for a backlog
    from mlops_lab.data.shipping import Chunk, Placed

TOLD_AT_ONCE = 1_000
"""Messages per transaction of the bus: others who publish wait for no more than these."""
MIB = 1024 * 1024


def ship(lab: Lab) -> int:
    """Move everything that is in the logs of all replicas, and drop what is shipped beyond what is kept.

    Returns:
        The rows that were appended to tables.
    """
    take_up(lab)
    return sum(_ship(lab, replica, folder) for replica, folder in lab.logs_of_replicas)


def take_up(lab: Lab) -> None:
    """Frames that an earlier release set aside and this one understands, once per process."""
    if lab.shipper.taken_up:
        return
    folders = dict(lab.logs_of_replicas)
    for name, placed in lab.shipper.take_up().items():
        _tell(lab, placed)
        replica = name.partition(":")[0]
        _report(placed, Incidents(lab, replica, folders.get(replica, lab.home), name))
    lab.shipper.taken_up = True


def _ship(lab: Lab, replica: str, folder: Path) -> int:
    log, name = log_id(folder), log_name(replica, folder)
    incidents = Incidents(lab, replica, folder, name)
    tabled = lab.shipper.position(name)
    incidents.missing(Position.of(tabled))
    incidents.cut_tails()
    behind = incidents.behind_tables(Position.of(tabled))

    began_ns = time_ns()

    def follow(chunk: "Chunk") -> None:
        nonlocal began_ns
        _tell(lab, chunk.frames)
        taken_in(lab, _reported(chunk.frames), began_ns)
        began_ns = time_ns()
        _report(chunk.frames, incidents)
        incidents.set_aside(chunk.aside)
        remember_shipped(folder, log, Position.of(chunk.last))

    shipped = lab.shipper.ship(name, _frames(folder, min(tabled, shipped_to(folder).number), incidents), then=follow)
    done = min(shipped.position, shipped_to(folder).number)  # the note of another log, begun meanwhile, is none
    if not behind:
        drop_segments(folder, Position.of(done), kept_bytes(lab))
    return shipped.predictions + shipped.outcomes + shipped.shadows


def kept_bytes(lab: Lab) -> int:
    """How much of a shipped log stays: what the settings say, at least what keys are read back from, at most half of the limit."""
    said = lab.settings.service
    return min(max(said.log_keep_mib, said.idempotency_log_mib), said.log_limit_mib // 2) * MIB


def _frames(folder: Path, after: int, incidents: Incidents) -> "Iterator[Placed]":
    durable = False
    for position, frame in read_frames(folder, Position.of(after), on_damage=incidents.damaged):
        if not durable:  # a power cut must not take away a segment whose number the tables know: it would be given again
            _keep_names(folder)
            durable = True
        yield position.number, frame


def _keep_names(folder: Path) -> None:
    try:
        sync_directory(folder)
    except OSError as error:
        raise StoreUnreachable.at(str(folder), str(error)) from error


def _tell(lab: Lab, placed: "Sequence[Placed]") -> None:
    """One event per answered live request."""
    messages = (said for _, frame in placed if frame["kind"] == "predictions" and (said := answered(frame)) is not None)
    while batch := list(islice(messages, TOLD_AT_ONCE)):
        began_ns = time_ns()
        lab.bus.publish(ANSWERS, batch)
        told(lab, batch, began_ns)


def _reported(placed: "Sequence[Placed]") -> Iterator[Reported]:
    for _, frame in placed:
        if frame["kind"] == "feedback":
            for item in frame["items"]:
                yield Reported(item["prediction_id"], item["event_id"], frame.get("trace"))


def _report(placed: "Sequence[Placed]", incidents: Incidents) -> None:
    from mlops_lab.data.frames import incident_of

    for position, frame in placed:
        if frame["kind"] == "incident":
            incidents.told(position, incident_of(frame))
