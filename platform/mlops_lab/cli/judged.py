"""A judgement, and what a version is worth, as they are printed."""

from collections.abc import Mapping, Sequence
from typing import Any

from mlops_lab.cli.output import Output

METRICS = ("roc_auc", "brier", "brier_skill", "log_loss", "calibration_error", "base_rate")


def show_metrics(output: Output, metrics: Mapping[str, float]) -> None:
    """Each metric with its 95 % interval over days; nothing where none was kept."""
    rows = [[n, metrics[n], metrics.get(f"{n}_low"), metrics.get(f"{n}_high")] for n in METRICS if n in metrics]
    if rows:
        sizes = f"{metrics.get('rows', 0):,.0f} rows of {metrics.get('days', 0):.0f} days"
        output.say(f"Measured on {sizes} that it was not trained on, with 95 % intervals over days:")
        output.table(["metric", "value", "from", "to"], rows)


def show_judgement(output: Output, number: int, outcome: str, because: str, checks: Sequence[Mapping[str, Any]]) -> None:
    """Each check with what was measured, then the outcome."""
    failed = [check["name"] for check in checks if not check["passed"]]
    output.say(f"Judgement of version {number}:")
    output.table(
        ["check", "holds", "measured", "asked"],
        [[c["name"], "yes" if c["passed"] else "NO", c["measured"], c["limit"]] for c in checks],
    )
    output.say(f"Judged '{outcome}': {because if not failed else f'{len(failed)} of {len(checks)} checks do not hold'}.")
