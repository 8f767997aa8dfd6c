"""A judgement, and what a version is worth, as they are printed."""

from collections.abc import Mapping, Sequence
from typing import Any

from mlops_lab.cli.output import Output

METRICS = ("roc_auc", "brier", "brier_skill", "log_loss", "calibration_error", "base_rate")


def show_metrics(output: Output, metrics: Mapping[str, float]) -> None:
    """Each metric with its 95 % interval over days; nothing where none was kept."""
    rows = [[n, metrics[n], metrics.get(f"{n}_low"), metrics.get(f"{n}_high")] for n in METRICS if n in metrics]
    if rows:
        sizes = f"{metrics.get('rows', 0):,.0f} rows of {metrics.get('days', 0):.0f} days that it was not trained on"
        output.table(["metric", "value", "95 % from", "to"], rows, title=f"On {sizes}")


def show_judgement(output: Output, number: int, outcome: str, because: str, checks: Sequence[Mapping[str, Any]]) -> None:
    """Each check with what was measured, then the outcome."""
    output.table(
        ["check", "holds", "measured", "asked"],
        [[c["name"], "yes" if c["passed"] else "NO", c["measured"], c["limit"]] for c in checks],
        title=f"Judgement of version {number}",
    )
    output.say(f"Judged '{outcome}': {because}.")
