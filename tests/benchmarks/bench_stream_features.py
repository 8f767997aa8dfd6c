"""What the stream is worth: the product's recipe with and without what has already happened, month by month of the real year.

For each month from April on, both are trained on all flights of the months before and judged on the flights of that month. Prints the
table and writes results/stream_features.md and .json. Some two minutes on one slow core.
"""

import json
import sys
import time
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlops_lab.flights.source import load
from mlops_lab.flights.usecase import RECIPE, Flights
from mlops_lab.training.bootstrap import Interval, draw_days
from mlops_lab.training.on_sklearn import fit
from mlops_lab.training.rows import TrainingRows

DATA = Path(__file__).parents[2] / "data" / "nycflights13"
RESULTS = Path(__file__).parent / "results"
FROM_THE_STREAM = ("origin_delay_3h_min", "carrier_delay_3h_min", "destination_delay_6h_min", "aircraft_delay_min")
MONTHS = range(4, 13)
SEED = 7


@dataclass(frozen=True)
class Month:
    """One judged month: ROC AUC with and without the stream's features, and the difference with its 95 % interval over days."""

    month: str
    flights: int
    without: float
    with_stream: float
    gain: float
    gain_low: float
    gain_high: float


def main() -> int:
    began = time.monotonic()
    year = load(DATA)
    end: datetime = year.flights["arrived_at"].max().to_pydatetime()
    rows = Flights(DATA).history({"flights": year.flights, "weather": year.weather}, end + timedelta(days=1))
    print(f"{len(rows)} labelled flights with features after {time.monotonic() - began:.0f} s", flush=True)
    bare = replace(RECIPE, features=tuple(feature for feature in RECIPE.features if feature.name not in FROM_THE_STREAM))
    found = []
    for number in MONTHS:
        month = np.datetime64(f"2013-{number:02d}")
        seen, judged = rows.take(rows.moments < month), rows.take((rows.moments >= month) & (rows.moments < month + 1))
        scores = [fit(recipe, _only(seen, recipe.features)).predict(judged.features) for recipe in (bare, RECIPE)]
        gain = paired_gain(judged, *scores)
        without, with_stream = (_auc(judged.labels, score, np.ones(len(judged))) for score in scores)
        found.append(Month(str(month), len(judged), without, with_stream, gain.value, gain.low, gain.high))
        print(f"{found[-1]} after {time.monotonic() - began:.0f} s", flush=True)
    RESULTS.mkdir(parents=True, exist_ok=True)
    text = page(found)
    (RESULTS / "stream_features.md").write_text(text, encoding="utf-8")
    told = {"mean_gain": float(np.mean([each.gain for each in found])), "months": [asdict(each) for each in found]}
    (RESULTS / "stream_features.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    print(text)
    return 0


def _only(rows: TrainingRows, features: tuple[object, ...]) -> TrainingRows:
    names = [feature.name for feature in features]  # type: ignore[attr-defined]
    return replace(rows, features=rows.features[names])


def paired_gain(rows: TrainingRows, before: NDArray[np.float64], after: NDArray[np.float64]) -> Interval:
    """The difference of two ROC AUCs on the same rows, with its interval over days (200 draws: each is two sorts)."""
    days = draw_days(rows.days, SEED, resamples=200)

    def gains(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        weights = counts[:, days.of_row]
        return np.array([_auc(rows.labels, after, each) - _auc(rows.labels, before, each) for each in weights])

    return days.interval(gains)


def _auc(labels: NDArray[np.bool_], scores: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """Weighted ROC AUC: how often a late flight has the higher score, ties counting half."""
    distinct, place = np.unique(scores, return_inverse=True)
    late = np.bincount(place, weights=weights * labels, minlength=len(distinct))
    rest = np.bincount(place, weights=weights * ~labels, minlength=len(distinct))
    below = np.cumsum(rest) - rest
    return float((late * (below + rest / 2)).sum() / (late.sum() * rest.sum()))


def page(months: list[Month]) -> str:
    """The table as markdown, with what it says computed from it."""
    gains = [month.gain for month in months]
    sure = sum(month.gain_low > 0 for month in months)
    lines = [
        "# What the stream's features are worth",
        "",
        "The recipe of the product, trained on all flights before a month and judged on that month, without and with",
        f"{', '.join(f'`{name}`' for name in FROM_THE_STREAM)}.",
        f"Mean gain **{np.mean(gains):+.4f} ROC AUC** ({min(gains):+.4f} to {max(gains):+.4f});",
        f"in {sure} of {len(months)} months the interval, drawn over days, lies above 0.",
        "",
        "| month | flights | without | with | gain (95 % over days) |",
        "| --- | --- | --- | --- | --- |",
    ]
    for each in months:
        interval = f"{each.gain:+.4f} ({each.gain_low:+.4f} to {each.gain_high:+.4f})"
        lines.append(f"| {each.month} | {each.flights:,} | {each.without:.4f} | {each.with_stream:.4f} | {interval} |")
    return "\n".join([*lines, "", "Made by `tests/benchmarks/bench_stream_features.py` (`make bench-parts`)."]) + "\n"


if __name__ == "__main__":
    sys.exit(main())
