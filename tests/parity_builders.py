"""A home in which flights were asked about while facts were published, as a replica would have answered."""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from flight_builders import ask
from mlops_lab.bootstrap import Lab
from mlops_lab.clock import FixedClock
from mlops_lab.data.prediction import ANSWER_COLUMNS, LATER_COLUMNS, PREDICTIONS
from mlops_lab.events import OBSERVATIONS, Message
from mlops_lab.features import Ask, FeatureRow
from mlops_lab.settings import Settings
from pipeline_builders import NOW

Question = tuple[str, bytes]


class Answering:
    """Publishes facts and answers questions from them alone, in the order of the calls; `record` puts the answers into the table."""

    def __init__(self, home: Path, data: Path) -> None:
        self.lab = Lab(Settings(home=home, data=data), FixedClock(NOW))
        self._state = self.lab.use_case.online()
        self.answers: list[tuple[Ask, FeatureRow]] = []

    def publish(self, facts: Iterable[Message], topic: str = OBSERVATIONS) -> None:
        facts = list(facts)
        self.lab.bus.publish(topic, facts)
        self._state.apply(facts)

    def answer(self, questions: Sequence[Question], moment: datetime | None = None) -> None:
        for _, item in questions:
            asked = ask(json.loads(item))
            self.answers.append((asked, self._state.read(asked if moment is None else asked._replace(moment=moment))))

    def change(self, position: int, **values: Any) -> None:
        """What an answer was scored on was something else."""
        asked, row = self.answers[position]
        names = [feature.name for feature in self.lab.use_case.features]
        changed = tuple(values.get(name, value) for name, value in zip(names, row.values, strict=True))
        self.answers[position] = asked, FeatureRow(changed, row.ages_s)

    def record(self, state: str | None = None) -> None:
        self.lab.shipper  # noqa: B018  declares the table
        names = [feature.name for feature in self.lab.use_case.features]
        shared = {"request_id": "r", "answered_at": NOW, "purpose": "live", "model": "flight-delay", "model_version": 1}
        shared |= {"scorer_sha256": "s", "assignment": 1, "variant": "champion", "probability": 0.25, "feature_state": state}
        rows = [
            shared
            | {"prediction_id": f"of-{asked.entity}", "entity": asked.entity, "moment": asked.moment, "ages_s": json.dumps(row.ages_s)}
            | dict(zip(names, row.values, strict=True))
            for asked, row in self.answers
        ]
        table = pd.DataFrame(rows, columns=[*ANSWER_COLUMNS, *names, *LATER_COLUMNS])
        table["moment"] = pd.to_datetime(table["moment"], utc=True).astype("datetime64[us, UTC]")
        table["answered_at"] = pd.to_datetime(table["answered_at"], utc=True).astype("datetime64[us, UTC]")
        self.lab.tables.append(PREDICTIONS, table, "test", 1)
