"""`lab judge`: champion and challenger on the same rows."""

from datetime import datetime

import click

from mlops_lab.cli.judged import show_judgement
from mlops_lab.cli.opened import MOMENT, open_lab, present, shown, take_in_logs
from mlops_lab.cli.output import Output
from mlops_lab.errors import UsageError


@click.command
@click.argument("version", type=click.IntRange(min=1))
@click.option(
    "--at", type=MOMENT, help="Event time: the two weeks closed before it are the evidence. Default: where production has come to."
)
@click.pass_obj
def command(output: Output, version: int, at: datetime | None) -> None:
    """Compare VERSION with the champion on the same rows: those of the newest two closed weeks, which neither was trained on.

    Every check must hold, the first of them that the gain survives drawing the days again. The rows are kept as evidence, the judgement is
    recorded, and a version that falls short is refused. Training judges by itself; this judges anew, on later weeks.
    """
    lab = open_lab()
    challenger = lab.ledger.version(version)
    at = at or present(lab)
    from mlops_lab.pipelines.judge import judge_version
    from mlops_lab.pipelines.train import champion_number

    champion = champion_number(lab)
    if champion == version:
        raise UsageError(
            f"Version {version} is the champion; it would be compared with itself.", "judge another version: `lab history` lists them."
        )
    take_in_logs(lab)
    judgement = judge_version(challenger, at, lab)
    against = f"against version {champion}" if champion else "on its own, since nothing serves yet"
    output.say(f"Version {version} {against}, as of {shown(at)}.")
    checks = [{"name": c.name, "passed": c.passed, "measured": c.measured, "limit": c.limit} for c in judgement.checks]
    show_judgement(output, version, judgement.outcome, judgement.because, checks)
    if judgement.outcome == "promote":
        output.say(f"Next: `lab promote {version}`, as somebody who did not order it.")
    output.result(
        {"version": version, "champion": champion, "at": at, "state": lab.ledger.state(version), **judgement.to_dict()}
        | {"evidence": (lab.ledger.judgement(version) or {}).get("evidence")}
    )
