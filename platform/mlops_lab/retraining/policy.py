"""When a model is trained again: the numbers that were chosen once and frozen. The rules that use them are in `decision.py`."""

import hashlib
import json
from dataclasses import dataclass
from datetime import timedelta

from mlops_lab.errors import SettingsWrong


@dataclass(frozen=True, slots=True)
class Policy:
    """Retrain when the unexplained loss showed in `k` of the last `n` windows, the newest among them, and nothing holds it back.

    Attributes:
        k: Windows that must count, 1 to n.
        n: Windows looked at, the newest included. Windows that are missing or were not measured do not count.
        cooldown: Event time between two orders.
        min_labels: Labelled answers of the champion that a window needs to say anything.
        min_coverage: Share of the window's answers that must have their label, 0 to 1.
        min_days: Different days those labels must come from, at least 2: the intervals are over days.
        orders_per_day: Training orders per UTC day of event time, whoever gave them.

    Raises:
        SettingsWrong: A number is out of its range.

    The defaults: without any drift 3 of 4 windows fire in about 4 % of cases, 2 of 3 in 16 %; `policy_report` states it for your data.
    """

    k: int = 3
    n: int = 4
    cooldown: timedelta = timedelta(weeks=3)
    min_labels: int = 500
    min_coverage: float = 0.8
    min_days: int = 5
    orders_per_day: int = 1

    def __post_init__(self) -> None:
        wrong = [
            rule
            for rule, kept in (
                ("1 <= k <= n", 1 <= self.k <= self.n),
                ("cooldown >= 0", self.cooldown >= timedelta(0)),
                ("min_labels >= 1", self.min_labels >= 1),
                ("0 < min_coverage <= 1", 0 < self.min_coverage <= 1),
                ("min_days >= 2", self.min_days >= 2),
                ("orders_per_day >= 1", self.orders_per_day >= 1),
            )
            if not kept
        ]
        if wrong:
            raise SettingsWrong(f"The retraining policy breaks: {', '.join(wrong)}.", "correct the retraining settings.")

    def to_record(self) -> dict[str, float | int]:
        """The policy as JSON object; the cooldown in seconds."""
        return {
            "k": self.k,
            "n": self.n,
            "cooldown_s": self.cooldown.total_seconds(),
            "min_labels": self.min_labels,
            "min_coverage": self.min_coverage,
            "min_days": self.min_days,
            "orders_per_day": self.orders_per_day,
        }

    def digest(self) -> str:
        """SHA-256 of the canonical JSON of all numbers: what an automatic approval and every decision name."""
        return hashlib.sha256(json.dumps(self.to_record(), sort_keys=True, separators=(",", ":")).encode()).hexdigest()
