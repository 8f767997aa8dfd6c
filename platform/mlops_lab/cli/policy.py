"""`lab policy`: when it retrains, and what that rule costs."""

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from mlops_lab.cli.output import Output
from mlops_lab.errors import SourceMissing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mlops_lab.bootstrap import Lab
    from mlops_lab.training.rows import TrainingRows

RULES = ((2, 3), (2, 4), (3, 4), (3, 5))
HISTORY = ("2013-W01", "2013-W13")


@click.group("policy", invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Show when the platform retrains, and what that rule costs in false alarms and misses.

    Without a word behind it: show.
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(show)


@command.command
@click.pass_obj
def show(output: Output) -> None:
    """Show the frozen numbers of the policy and the setting of each."""
    lab = _lab()
    said = lab.policy
    output.say(
        f"Retrain when a model lost skill that it did not expect to lose, in {said.k} of the last {said.n} weeks, the newest included."
    )
    rows: list[list[object]] = [
        ["weeks that must count", f"{said.k} of {said.n}", "LAB_POLICY__K, LAB_POLICY__N"],
        ["days between two retrainings", said.cooldown.days, "LAB_POLICY__COOLDOWN_DAYS"],
        ["labels a week needs", said.min_labels, "LAB_POLICY__MIN_LABELS"],
        ["share of answers with a label", said.min_coverage, "LAB_POLICY__MIN_COVERAGE"],
        ["days those labels are of", said.min_days, "fixed"],
        ["retrainings per day", said.orders_per_day, "LAB_POLICY__ORDERS_PER_DAY"],
    ]
    output.table(["rule", "value", "setting"], rows)
    output.say(f"Digest {said.digest()[:12]}: every decision and every approval by policy names it. Next: `lab policy report`.")
    output.result({"policy": said.to_record(), "digest": said.digest()})


@command.command
@click.option("--years", type=click.IntRange(min=20), default=500, show_default=True, help="Resampled years.")
@click.pass_obj
def report(output: Output, years: int) -> None:
    """State false alarms and misses of several rules, on years resampled from January to March. Takes under a minute.

    The rows are scored by models that did not see their day: one is trained on the odd days and scores the even ones, one the other way
    round. Nothing from April on is used, so the rule was not chosen by looking at the weeks that it decides about.
    """
    lab = _lab()
    from mlops_lab.retraining.report import policy_report

    output.say("Training on the odd days and on the even days of January to March ...")
    rows, probabilities = crossfitted(lab)
    rules = sorted({*RULES, (lab.policy.k, lab.policy.n)}, key=lambda rule: (rule[1], rule[0]))
    policies = [replace(lab.policy, k=k, n=n) for k, n in rules]
    output.say(f"Drawing {years} years from {len(rows):,} answers of {len(set(rows.days.tolist()))} days ...")
    found = policy_report(probabilities, rows.labels, rows.days, policies, seed=lab.seed, years=years)
    shifts = [miss.shift for miss in found.rules[0].misses]
    output.table(
        [
            "rule",
            "",
            "weeks firing",
            "trainings a year",
            "years without",
            *(f"missed at {shift:.0%}" for shift in shifts),
            "weeks to order",
        ],
        [
            [
                f"{rule.policy.k} of {rule.policy.n}",
                "frozen" if rule.policy == lab.policy else "",
                f"{rule.false_alarms.weeks_firing:.1%}",
                f"{rule.false_alarms.orders_per_year:.2f}",
                f"{1 - rule.false_alarms.years_with_order:.0%}",
                *(f"{miss.missed:.0%}" for miss in rule.misses),
                " / ".join("-" if miss.weeks_to_order is None else f"{miss.weeks_to_order:g}" for miss in rule.misses),
            ]
            for rule in found.rules
        ],
    )
    output.say(f"Without any change {found.weeks_counted:.0%} of the weeks count; unexplained loss of the sample {found.sample}.")
    output.say("Firing, trainings, years without: when nothing changes, so each training is a false alarm that the judge has to refuse.")
    output.say(
        f"Missed: share of years without an order within {found.within} weeks after so large a share of punctual flights turns late."
    )
    output.say(f"Frozen in the settings: {lab.policy.k} of {lab.policy.n}, {lab.policy.cooldown.days} days between two trainings.")
    output.result({"frozen": lab.policy.to_record(), "digest": lab.policy.digest(), "report": _record(found), "rows": len(rows)})


def crossfitted(lab: "Lab") -> "tuple[TrainingRows, NDArray[np.float64]]":
    """January to March, each row with a probability by a model that was trained on the other days.

    Raises:
        SourceMissing: The flight data is not on this machine.
    """
    import numpy as np

    from mlops_lab.flights import source
    from mlops_lab.monitoring.window import Window

    first, last = (Window.of_week(name) for name in HISTORY)
    year = source.load(lab.settings.data)
    span = Window(first.start, last.end)
    rows = lab.use_case.history(dict(year.batch(span).tables), last.end)
    if not len(rows):
        raise SourceMissing(f"{lab.settings.data} has no flights of January to March.", "run `make install` again.")
    odd = rows.days.astype("int64") % 2 == 1
    probabilities = np.empty(len(rows))
    for scored in (odd, ~odd):
        fitted = lab.trainer(lab.use_case.recipe, rows.take(~scored))
        probabilities[scored] = fitted.predict(rows.take(scored).features)
    return rows, probabilities


def _record(found: object) -> dict[str, object]:
    """The report as a document; a policy in it as its record."""
    from mlops_lab.retraining.report import PolicyReport

    assert isinstance(found, PolicyReport)
    rules = [{"policy": r.policy.to_record(), "false_alarms": r.false_alarms, "misses": r.misses} for r in found.rules]
    sizes = {"years": found.years, "weeks": found.weeks, "within": found.within}
    return {"sample": found.sample, "weeks_counted": found.weeks_counted, **sizes, "rules": rules}


def _lab() -> "Lab":
    """The settings with their policy; no home is needed or made."""
    import os

    from mlops_lab.bootstrap import Lab
    from mlops_lab.bootstrap.services import QUIET
    from mlops_lab.settings import load_settings

    os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
    return Lab(load_settings())
