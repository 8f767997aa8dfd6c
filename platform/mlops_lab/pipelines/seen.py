"""One question under the glass: what the model saw, what is online now, and what the training side computes for the same moment."""

import difflib
import json
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import pandas as pd

from mlops_lab.bootstrap import Lab
from mlops_lab.data.prediction import PREDICTIONS
from mlops_lab.errors import NotEnoughData, UnknownName
from mlops_lab.events import OBSERVATIONS, REFERENCES, SCHEDULE, Message
from mlops_lab.features import Ask, Value
from mlops_lab.features.asked import PastQuestion
from mlops_lab.features.rows import RowReader
from mlops_lab.pipelines.captured import LIVE
from mlops_lab.pipelines.late import Reason, reason_for
from mlops_lab.pipelines.parity import BEHIND, plain
from mlops_lab.pipelines.published import Published, all_of, published

_NEAR = 1_000


@dataclass(frozen=True)
class Served:
    """One answer.

    Attributes:
        prediction_id: Its id.
        moment: Event time of the question.
        answered_at: Wall time.
        version: The model version that answered.
        probability: What it said.
        state: fresh, stale or absent; empty for an answer of an earlier release.
        ages_s: By source, the age of the newest fact used, in seconds; None where nothing was known.
        values: Features as scored, by name.
    """

    prediction_id: str
    moment: datetime
    answered_at: datetime
    version: int
    probability: float
    state: str
    ages_s: Mapping[str, float | None]
    values: Mapping[str, Value]


@dataclass(frozen=True)
class Seen:
    """What is known of one question.

    Attributes:
        question: As it was asked, or would be; `ask.moment` is the moment that is looked at.
        served: The last answer; None where nobody asked.
        online: Features from the online store as of the moment, by name; None where there is no store to read.
        online_ages_s: Their ages.
        offline: Features as the training side computes them.
        source: What the offline side was computed from: `bus` or `batches`.
        facts: How many facts of the time before it had.
        reason: Late facts that explain what was served; None where nothing differs or nothing explains it.
    """

    question: PastQuestion
    served: Served | None
    online: Mapping[str, Value] | None
    online_ages_s: Mapping[str, float | None]
    offline: Mapping[str, Value]
    source: str
    facts: int
    reason: Reason | None

    @property
    def comparable(self) -> bool:
        """Whether the answer was about the very moment that is looked at."""
        return self.served is not None and self.served.moment == self.question.ask.moment

    @property
    def differing(self) -> list[str]:
        """The features that were served with another value than the training side computes for the same moment."""
        if self.served is None or not self.comparable:
            return []
        known = (name for name in self.offline if name not in self.question.unknown)
        return [name for name in known if self.served.values[name] != self.offline[name]]


def seen(lab: Lab, entity: str, at: datetime | None, reader: RowReader | None) -> Seen:
    """Put together what is known of a question.

    Args:
        lab: The home; logs and bus are taken in before.
        entity: What is asked about.
        at: Event time to look at; None for the moment of the question.
        reader: Of the online store; None where there is none.

    Raises:
        UnknownName: Nobody asked about it, and neither plan nor batch names it; with the near misses.
        NotEnoughData: Nothing was asked, planned or accepted at all.
        BusUnreachable, FeatureStoreUnreachable: One of the sources does not answer.
    """
    lab.shipper  # noqa: B018  declares the table
    answers = lab.tables.read(PREDICTIONS, filters=[LIVE, ("entity", "=", entity)]).sort_values("answered_at", ignore_index=True)
    question, planned_in = _question(lab, entity, answers)
    served = None if answers.empty else _served(answers.iloc[-1], [feature.name for feature in lab.use_case.features])
    ask = question.ask if at is None else question.ask._replace(moment=at)
    source, facts, references = _facts(lab, ask.moment, prefer_batches=planned_in == "batches")
    offline_row = lab.use_case.features_from([ask], [*references, *(one.message for one in facts)]).iloc[0]
    offline = {str(name): plain(value) for name, value in offline_row.items()}
    online, ages = _online(lab, ask, reader)
    found = Seen(PastQuestion(ask, question.unknown), served, online, ages, offline, source, len(facts), None)
    if found.differing and served is not None:
        scored = {name: value for name, value in served.values.items() if name not in question.unknown}
        reason = reason_for(ask, scored, facts, references, lab.use_case)
        found = Seen(found.question, served, online, ages, offline, source, len(facts), reason)
    return found


def _question(lab: Lab, entity: str, answers: pd.DataFrame) -> tuple[PastQuestion, str]:
    """What is, or would be, asked about something, and where that is said: answers, plan or batches."""
    plans = [plan for plan in all_of(lab.bus, SCHEDULE) if plan.subject == entity]
    if not answers.empty:
        moment = answers["moment"].iloc[-1].to_pydatetime()
        around = [one.message for one in published(lab.bus, OBSERVATIONS, moment - BEHIND, moment + BEHIND)]
        return lab.use_case.questions(answers.tail(1), [*around, *plans])[0], "answers"
    if plans:
        return PastQuestion(lab.use_case.planned(plans[-1])), "plan"
    accepted = lab.use_case.accepted_plan(_accepted(lab), entity)
    if accepted is not None:
        return PastQuestion(accepted), "batches"
    raise _unknown(lab, entity)


def _facts(lab: Lab, moment: datetime, prefer_batches: bool) -> tuple[str, list[Published], Sequence[Message]]:
    """The facts before a moment: from the bus, or from accepted batches where the question is one of theirs or the bus has none."""
    on_bus = published(lab.bus, OBSERVATIONS, moment - BEHIND, moment)
    if on_bus and not prefer_batches:
        return "bus", on_bus, all_of(lab.bus, REFERENCES)
    told = list(lab.use_case.facts(_accepted(lab), moment - BEHIND, moment))
    facts = [Published(one, "batches", 0, number, one.at) for number, one in enumerate(told, 1) if moment - BEHIND < one.at <= moment]
    return "batches", facts, told


def _accepted(lab: Lab) -> dict[str, pd.DataFrame]:
    return {table.name: lab.snapshots.read(table.name) for table in lab.use_case.tables}


def _online(lab: Lab, ask: Ask, reader: RowReader | None) -> tuple[Mapping[str, Value] | None, Mapping[str, float | None]]:
    if reader is None:
        return None, {}
    row = lab.use_case.from_rows(reader).read_many([ask])[0]
    names = [feature.name for feature in lab.use_case.features]
    return dict(zip(names, row.values, strict=True)), row.ages_s


def _served(row: "pd.Series[object]", names: Sequence[str]) -> Served:
    found = row.to_dict()
    return Served(
        prediction_id=str(found["prediction_id"]),
        moment=found["moment"].to_pydatetime(),
        answered_at=found["answered_at"].to_pydatetime(),
        version=int(found["model_version"]),
        probability=float(found["probability"]),
        state=str(found["feature_state"] or ""),
        ages_s=json.loads(str(found["ages_s"])),
        values={name: plain(found[name]) for name in names},
    )


def _unknown(lab: Lab, entity: str) -> UnknownName | NotEnoughData:
    names = set(lab.tables.read(PREDICTIONS, filters=[LIVE], columns=["entity"])["entity"])
    names |= {plan.subject for plan in all_of(lab.bus, SCHEDULE)} | set(lab.use_case.accepted_names(_accepted(lab)))
    if not names:
        return NotEnoughData(
            "Nothing was asked, planned or accepted in this home yet.",
            "begin with `lab ingest 2013-01`, or go on with `lab replay`.",
        )
    ordered = sorted(names)
    place = bisect_left(ordered, entity)
    neighbours = ordered[max(0, place - _NEAR) : place + _NEAR]
    near = difflib.get_close_matches(entity, neighbours, n=3)
    hint = f"did you mean {' or '.join(repr(name) for name in near)}?" if near else f"names look like '{ordered[-1]}'."
    return UnknownName(f"Nobody asked about '{entity}', and no plan and no accepted batch names it.", hint)
