"""Is every acknowledged prediction there exactly once? Asked from outside: of the segments and the tables, never of who wrote them."""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mlops_lab.bootstrap import Lab
from mlops_lab.serving.prediction_log import Damage, read_frames

Place = Literal["log", "table", "aside"]


@dataclass(frozen=True, slots=True)
class Found:
    """One record of a prediction.

    Attributes:
        prediction_id: Of it.
        place: `log`: a segment; `table`: `predictions`; `aside`: a frame that the shipping did not understand.
        where: Replica and segment, or the name of the table.
        says: What must be the same wherever it is: entity, model version, variant, probability.
    """

    prediction_id: str
    place: Place
    where: str
    says: tuple[Any, ...]


@dataclass(frozen=True)
class Joined:
    """A list of ids, joined with all that is recorded.

    Attributes:
        once: How many are there once. Shipped and still in the log is once, if both say the same.
        missing: Those that are nowhere.
        twice: Those with two records in one place, or with records that differ.
        unreadable_bytes: Of the log. An id that is missing may have been in them.
    """

    once: int
    missing: tuple[str, ...]
    twice: tuple[str, ...]
    unreadable_bytes: int

    @property
    def holds(self) -> bool:
        return not self.missing and not self.twice


def joined(lab: Lab, ids: Collection[str]) -> Joined:
    """Join ids (each counts once) with logs and tables, also while the logs are written and shipped."""
    wanted = set(ids)
    damage: list[Damage] = []
    places: dict[str, set[Place]] = {}
    says: dict[str, tuple[Any, ...]] = {}
    twice: set[str] = set()
    for one in _records(lab, wanted, damage):
        seen = places.setdefault(one.prediction_id, set())
        if one.place in seen or says.setdefault(one.prediction_id, one.says) != one.says:
            twice.add(one.prediction_id)
        seen.add(one.place)
    missing = wanted - places.keys()
    return Joined(len(wanted) - len(missing) - len(twice), tuple(sorted(missing)), tuple(sorted(twice)), sum(one.size for one in damage))


def find(lab: Lab, identifier: str) -> list[Found]:
    """Every record of one prediction."""
    return list(_records(lab, {identifier}, []))


def _records(lab: Lab, wanted: Collection[str], damage: list[Damage]) -> Iterator[Found]:
    for replica, folder in lab.logs_of_replicas:  # the logs first: what is shipped and dropped in between is then in the table
        for position, frame in read_frames(folder, on_damage=damage.append):
            yield from _of_frame(frame, wanted, "log", f"{replica}, segment {position.segment}, before byte {position.offset}")
    from mlops_lab.data.prediction import PREDICTIONS
    from mlops_lab.data.shipping import SET_ASIDE

    lab.shipper  # noqa: B018  declares the tables
    for text in lab.tables.read(SET_ASIDE, columns=["frame"])["frame"]:
        yield from _of_frame(json.loads(text), wanted, "aside", SET_ASIDE)
    columns = ["prediction_id", "entity", "model_version", "variant", "probability"]
    rows = lab.tables.read(PREDICTIONS, columns=columns)
    for identifier, *says in rows[rows["prediction_id"].isin(list(wanted))].itertuples(index=False, name=None):
        yield Found(str(identifier), "table", PREDICTIONS, tuple(says))


def _of_frame(frame: Any, wanted: Collection[str], place: Place, where: str) -> Iterator[Found]:
    if not isinstance(frame, Mapping) or frame.get("kind") != "predictions" or not isinstance(frame.get("rows"), list):
        return
    for row in frame["rows"]:
        if isinstance(row, Mapping) and row.get("prediction_id") in wanted:
            says = (row.get("entity"), frame.get("model_version"), frame.get("variant"), row.get("probability"))
            yield Found(row["prediction_id"], place, where, says)
