"""What a finished home says, read once from its stores: tables, ledger, audit, catalog, journal, orchestrator."""

import sqlite3
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlops_lab.audit.chain import Break
from mlops_lab.bootstrap import Lab
from mlops_lab.bootstrap.chosen import chosen
from mlops_lab.data.label import OUTCOMES, Labelled, join
from mlops_lab.data.prediction import CHAMPION, PREDICTIONS
from mlops_lab.events import ANSWERS, CONTROL, OBSERVATIONS, REFERENCES
from mlops_lab.monitoring.window import Window
from mlops_lab.pipelines.captured import LIVE
from mlops_lab.pipelines.prefect_api import FlowRun, PrefectApi
from mlops_lab.pipelines.published import all_of
from mlops_lab.pipelines.train import probabilities_of, scorer_of
from mlops_lab.registry.ledger import Fact
from mlops_lab.registry.version import Assignment, ModelVersion, Role
from mlops_lab.replay.journal import Journal, Tally
from mlops_lab.replay.session import JOURNAL
from mlops_lab.retraining.decision import Decision
from mlops_lab.retraining.record import from_record
from mlops_lab.training.rows import TrainingRows

FOREVER = datetime(2100, 1, 1, tzinfo=UTC)


class Stores:
    """Reads each store at its first use and keeps what it read."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        lab.shipper  # noqa: B018  declares the tables
        lab.snapshots  # noqa: B018

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """Every answer, probes too."""
        return self.lab.tables.read(PREDICTIONS)

    @cached_property
    def bus_losses(self) -> int:
        """How often replicas of the service lost the bus and answered from the facts that they had, as their logs say."""
        return sum(log.read_bytes().count(b'"serving.bus_lost"') for log in (self.lab.home / "logs").glob("inference*.log"))

    @cached_property
    def outcomes(self) -> pd.DataFrame:
        """Every reported outcome."""
        return self.lab.tables.read(OUTCOMES)

    @cached_property
    def live(self) -> pd.DataFrame:
        """Answers that were not probes."""
        column, _, value = LIVE
        return self.predictions[self.predictions[column] == value]

    @cached_property
    def labelled(self) -> Labelled:
        """Live answers joined with every outcome that ever arrived."""
        return join(self.live, self.outcomes, FOREVER)

    def labelled_at(self, window: Window) -> Labelled:
        """The window's live answers with the outcomes that had arrived when it closed."""
        inside = self.live[(self.live["moment"] >= window.start) & (self.live["moment"] < window.end)]
        known = self.outcomes[(self.outcomes["at"] <= window.closes_at) & (self.outcomes["at"] >= window.start)]
        return join(inside, known, window.closes_at)

    @cached_property
    def journal(self) -> Journal:
        return Journal(self.lab.home / JOURNAL)

    def tally(self, kind: str) -> Tally:
        return self.journal.tally(kind)

    @cached_property
    def decisions(self) -> list[Decision]:
        return [from_record(record) for record in self.lab.ledger.decisions()]

    @cached_property
    def facts(self) -> list[Fact]:
        return list(self.lab.ledger.facts())

    def facts_of(self, kind: str, subject: str | None = None) -> list[Fact]:
        return [fact for fact in self.facts if fact.kind == kind and subject in (None, fact.subject)]

    @cached_property
    def assignments(self) -> list[Assignment]:
        return [one for one in self.lab.ledger.assignments() if one.role == Role.CHAMPION]

    @cached_property
    def versions(self) -> dict[int, ModelVersion]:
        return {version.number: version for version in self.lab.ledger.versions()}

    @cached_property
    def flow_runs(self) -> list[FlowRun]:
        """What Prefect's own database says of the runs, or its server where trainings are deployments; empty where there is none."""
        if self.lab.settings.orchestration.mode == "deployments":
            return PrefectApi.of_environment(self.lab.settings.orchestration.timeout_s).runs()
        path = self.lab.home / "prefect" / "prefect.db"
        if not path.is_file():
            return []
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10) as db:
            return [FlowRun(str(name), str(state)) for name, state in db.execute("SELECT name, state_type FROM flow_run ORDER BY created")]

    @cached_property
    def audit_break(self) -> Break | None:
        return self.lab.trail.verify()

    @cached_property
    def unaccounted(self) -> list[str]:
        return list(self.lab.ledger.unaccounted())

    @cached_property
    def bus_gaps(self) -> list[str]:
        """What shows that a message was taken off the bus: offsets that are not 1, 2, 3, ..., a topic that is gone, a group that has
        finished more than there is, or a message that was sent by a recorded transaction and is not there. A broker's own offsets may have
        gaps, so there the last two have to do."""
        if chosen(self.lab.settings).bus == "kafka":
            return self._gaps_on_broker()
        with sqlite3.connect(f"file:{self.lab.settings.bus_file}?mode=ro", uri=True, timeout=10) as db:
            topics = {
                str(t): (int(n), int(head)) for t, n, head in db.execute("SELECT topic, COUNT(*), MAX(offset) FROM message GROUP BY topic")
            }
            control = {str(identifier) for (identifier,) in db.execute("SELECT id FROM message WHERE topic = ?", (CONTROL,))}
            groups = [(str(g), str(t), int(offset)) for g, t, offset in db.execute("SELECT grp, topic, offset FROM progress")]
        sent = self.lab.outbox.sent(CONTROL)
        gaps = [f"topic {topic} has {count} messages up to offset {head}" for topic, (count, head) in topics.items() if count != head]
        gaps += [f"topic {topic} is gone" for topic in (ANSWERS, OBSERVATIONS, REFERENCES, CONTROL) if topic not in topics]
        gaps += [f"{group} has finished {offset} of {topic}" for group, topic, offset in groups if offset > topics.get(topic, (0, 0))[1]]
        return gaps + [f"message {identifier} was sent and is not there" for identifier in sorted(sent - control)]

    def _gaps_on_broker(self) -> list[str]:
        bus, gaps = self.lab.bus, []
        for topic in (ANSWERS, OBSERVATIONS, REFERENCES, CONTROL):
            for partition in range(bus.partitions(topic)):
                head, done = bus.head(topic, partition), {group: bus.committed(group, topic, partition) for group in bus.groups(topic)}
                gaps += [f"{group} has finished {offset} of {topic}/{partition}" for group, offset in done.items() if offset > head]
        control = {message.id for message in all_of(bus, CONTROL)}
        return gaps + [f"message {identifier} was sent and is not there" for identifier in sorted(self.lab.outbox.sent(CONTROL) - control)]

    @cached_property
    def told(self) -> list[str]:
        """Every prediction that the bus was told of. A broker may have an event twice, which counts once."""
        if chosen(self.lab.settings).bus == "kafka":
            events = {message.id: message for message in all_of(self.lab.bus, ANSWERS)}
            return [str(identifier) for message in events.values() for identifier in message.data["predictions"]]
        wanted = "SELECT one.value FROM message, json_each(message.data, '$.predictions') AS one WHERE topic = ? ORDER BY offset"
        with sqlite3.connect(f"file:{self.lab.settings.bus_file}?mode=ro", uri=True, timeout=10) as db:
            return [str(identifier) for (identifier,) in db.execute(wanted, (ANSWERS,))]

    @cached_property
    def scored_by_first(self) -> NDArray[np.float64]:
        """What version 1 says of every labelled live answer: the counterfactual 'never retrained'."""
        return probabilities_of(scorer_of(self.lab, min(self.versions)), _as_rows(self.lab, self.labelled.rows))

    def first_answer_by(self, number: int, after: datetime) -> datetime | None:
        """Wall time of the first answer by a version as champion after a moment. What it answered as canary before is no takeover."""
        by_champion = self.predictions[self.predictions["variant"] == CHAMPION]
        mine = by_champion[(by_champion["model_version"] == number) & (by_champion["answered_at"] >= after)]
        return None if mine.empty else mine["answered_at"].min().to_pydatetime()

    def catalog_version(self, number: int) -> dict[str, Any]:
        """What the catalog knows of a version: its tags."""
        return dict(self.lab.catalog.tags(number))


def _as_rows(lab: Lab, rows: pd.DataFrame) -> TrainingRows:
    """Labelled answers as they are, in their order, one per entity or not."""
    return TrainingRows(
        features=rows[[feature.name for feature in lab.use_case.features]],
        labels=lab.use_case.labels(rows).astype(np.bool_),
        keys=rows["prediction_id"].to_numpy(dtype=np.str_),
        moments=rows["moment"].dt.tz_localize(None).to_numpy(dtype="datetime64[us]"),
    )
