"""Did the model see what it would have seen in training? Features as scored beside those computed from what was published since."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

import pandas as pd

from mlops_lab.bootstrap import Lab
from mlops_lab.data.prediction import PREDICTIONS
from mlops_lab.events import OBSERVATIONS, REFERENCES, SCHEDULE
from mlops_lab.features import Value
from mlops_lab.features.policy import ABSENT, STALE
from mlops_lab.pipelines.captured import LIVE
from mlops_lab.pipelines.late import Reason, reason_for
from mlops_lab.pipelines.published import all_of, published

BEHIND = timedelta(hours=36)
"""How far back facts are read: the longest window, and some lateness."""

SHARE_ALLOWED = 0.001
"""Share of the answers that may differ, each for a known reason."""

LOOKED_INTO = 500
"""Differing answers whose reason is looked for; behind this many something is wrong with all of them."""


class Difference(NamedTuple):
    """One feature of one answer that was served with another value than the facts give."""

    feature: str
    served: Value
    offline: Value


@dataclass(frozen=True)
class Answer:
    """An answer whose features differ.

    Attributes:
        prediction_id: Its id.
        entity: What was asked about.
        moment: Event time of the question.
        differences: At least one.
        state: What the answer says of its own features: fresh, stale or absent; empty for an answer of an earlier release.
        reason: The late facts that explain them; None where none do.
    """

    prediction_id: str
    entity: str
    moment: datetime
    differences: tuple[Difference, ...]
    state: str
    reason: Reason | None

    @property
    def because(self) -> str:
        """Why, as a sentence; empty where nothing explains it."""
        if self.reason is not None:
            return str(self.reason)
        return f"the answer itself says that its features were {self.state}" if self.state in (STALE, ABSENT) else ""


@dataclass(frozen=True)
class Parity:
    """What a span's comparison found.

    Attributes:
        start: Event time of the first question that counts,
        end: and behind the last.
        answers: Live answers compared.
        partly: Of these, compared without the features whose question is recorded nowhere (an aircraft of a flight that never left).
        values: Values compared.
        facts: Published facts that the offline side was computed from.
        differing: The answers that differ.
    """

    start: datetime
    end: datetime
    answers: int
    partly: int
    values: int
    facts: int
    differing: tuple[Answer, ...]

    @property
    def late(self) -> int:
        """Answers that differ since facts came after them."""
        return sum(1 for one in self.differing if one.reason is not None)

    @property
    def degraded(self) -> int:
        """Answers that differ, and said themselves that their features were stale or absent."""
        return sum(1 for one in self.differing if one.because) - self.late

    @property
    def unexplained(self) -> int:
        return len(self.differing) - self.late - self.degraded

    @property
    def share(self) -> float:
        """Of the answers that differ, 0 to 1."""
        return len(self.differing) / self.answers if self.answers else 0.0

    @property
    def holds(self) -> bool:
        """Whether each difference has its reason, and they are few."""
        return self.answers > 0 and not self.unexplained and self.share <= SHARE_ALLOWED


def answers_of(lab: Lab, start: datetime, end: datetime) -> pd.DataFrame:
    """The live answers of a span of event time, with their features as scored, in the order of their moments."""
    lab.shipper  # noqa: B018  declares the table
    found = lab.tables.read(PREDICTIONS, filters=[LIVE, ("moment", ">=", start), ("moment", "<", end)])
    return found.sort_values(["moment", "prediction_id"], ignore_index=True)


def compare(lab: Lab, answers: pd.DataFrame) -> Parity:
    """Compare what answers were scored on with what the published facts give, each as of its own moment.

    Args:
        lab: The home.
        answers: Rows of the table of predictions, sorted by moment.

    Raises:
        BusUnreachable: The facts cannot be read.
    """
    start, end = answers["moment"].min().to_pydatetime(), answers["moment"].max().to_pydatetime()
    facts = published(lab.bus, OBSERVATIONS, start - BEHIND, end)
    plans = published(lab.bus, SCHEDULE, start - BEHIND, end)
    around = published(lab.bus, OBSERVATIONS, end, end + BEHIND)  # which aircraft flew: known by what the flight did after the question
    references = all_of(lab.bus, REFERENCES)
    questions = lab.use_case.questions(answers, [one.message for one in (*facts, *around, *plans)])
    offline = lab.use_case.features_from([one.ask for one in questions], [*references, *(one.message for one in facts)])
    differing: list[Answer] = []
    names = [feature.name for feature in lab.use_case.features]
    served = answers[names]
    unequal = ~((served == offline) | (served.isna() & offline.isna()))
    for row in unequal.index[unequal.any(axis=1)]:
        question = questions[row]
        different = tuple(
            Difference(name, plain(served.at[row, name]), plain(offline.at[row, name]))
            for name in names
            if unequal.at[row, name] and name not in question.unknown
        )
        if different:
            reason = None
            if len(differing) < LOOKED_INTO:
                scored = {name: plain(served.at[row, name]) for name in names if name not in question.unknown}
                reason = reason_for(question.ask, scored, facts, references, lab.use_case)
            identifier, moment = str(answers.at[row, "prediction_id"]), question.ask.moment
            state = str(answers.at[row, "feature_state"] or "")
            differing.append(Answer(identifier, question.ask.entity, moment, different, state, reason))
    unknown = sum(len(one.unknown) for one in questions)
    partly = sum(1 for one in questions if one.unknown)
    return Parity(start, end, len(answers), partly, len(answers) * len(names) - unknown, len(facts), tuple(differing))


def plain(found: object) -> Value:
    """A value of a table as a feature: text, number, or None for a gap."""
    if found is None or found != found:
        return None
    return found if isinstance(found, str) else float(found)  # type: ignore[arg-type]  # a number of numpy
