"""Where an interrupted replay goes on: what was answered behind its cursor, asked of the stores, since the replay may have died unheard."""

from datetime import datetime

from mlops_lab.bootstrap import Lab
from mlops_lab.clock import from_iso
from mlops_lab.data.prediction import PREDICTIONS
from mlops_lab.pipelines.captured import LIVE
from mlops_lab.serving.prediction_log import Damage, Position, read_frames
from mlops_lab.serving.segments import log_name

Answered = dict[str, tuple[str, datetime]]
"""By entity: the id of its answer, and the moment it was asked at."""


def answered_since(lab: Lab, after: datetime) -> Answered:
    """Every live answer whose moment lies behind an event time.

    Each answer is in a replica's log before it leaves the service, so nothing is missing, whoever died. Asking such an entity again
    would give it a second answer, and its outcome a second content. What is shipped is read from the table, the rest from the logs.
    """
    found: Answered = {}
    for replica, folder in lab.logs_of_replicas:  # the logs first: what is shipped in between is then found twice, not missed
        shipped_to = Position.of(lab.shipper.position(log_name(replica, folder)))
        for _, frame in read_frames(folder, shipped_to, on_damage=_shipping_tells):
            if frame.get("kind") == "predictions" and frame["purpose"] == LIVE[2]:
                for row in frame["rows"]:
                    moment = from_iso(row["moment"])
                    if moment > after:
                        found.setdefault(row["entity"], (row["prediction_id"], moment))
    lab.shipper  # noqa: B018  declares the table
    shipped = lab.tables.read(PREDICTIONS, filters=[LIVE, ("moment", ">", after)], columns=["entity", "prediction_id", "moment"])
    for entity, identifier, moment in shipped.itertuples(index=False, name=None):
        found.setdefault(str(entity), (str(identifier), moment.to_pydatetime()))
    return found


def _shipping_tells(damage: Damage) -> None:
    """An answer that cannot be read is asked for again; that it cannot be read is recorded by the shipping."""
