"""`lab shadow`: a version scores beside the champion, is logged, and is never answered."""

from typing import TYPE_CHECKING

import click

from mlops_lab.cli.opened import identity, open_lab, present, shown
from mlops_lab.cli.output import Output
from mlops_lab.cli.promote import served, took_in
from mlops_lab.errors import ApprovalRefused, UsageError

if TYPE_CHECKING:
    from mlops_lab.bootstrap import Lab


@click.group("shadow")
def command() -> None:
    """Let a version score beside the champion. Its scores are logged and compared, and no caller ever sees them."""


@command.command("on")
@click.argument("version", type=click.IntRange(min=1), required=False)
@click.option("--sample", metavar="PERCENT", type=click.FloatRange(0.1, 100), default=10.0, show_default=True, help="In steps of 0.1.")
@click.option("--why", metavar="TEXT", default="to compare it with the champion", help="A sentence for the record.")
@click.option("--as", "name", metavar="NAME", help="Whose token to use, from the home's keys. Default: operator.")
@click.pass_obj
def on(output: Output, version: int | None, sample: float, why: str, name: str | None) -> None:
    """Let VERSION, or else the newest that neither serves nor is barred, score a sample of the requests after they were answered.

    One version at a time: another one takes its place.
    """
    permille = round(sample * 10)
    if abs(permille - sample * 10) > 1e-6:
        raise UsageError(f"{sample:g} % is no step of 0.1 %.", f"use {permille / 10:g}.")
    lab = open_lab()
    took_in(output, lab)
    from mlops_lab.pipelines.canary import newest_challenger

    number = newest_challenger(lab, judged=False) if version is None else lab.ledger.version(version).number
    _assign(output, lab, number, permille, why, name)


@command.command("off")
@click.option("--why", metavar="TEXT", default="compared", help="A sentence for the record.")
@click.option("--as", "name", metavar="NAME", help="Whose token to use, from the home's keys. Default: operator.")
@click.pass_obj
def off(output: Output, why: str, name: str | None) -> None:
    """Nobody scores beside the champion any more."""
    lab = open_lab()
    took_in(output, lab)
    _assign(output, lab, None, 0, why, name)


def _assign(output: Output, lab: "Lab", version: int | None, permille: int, why: str, name: str | None) -> None:
    from mlops_lab.registry.version import Role

    who, _ = identity(lab, name, "operator")
    if who.role != "operator":
        raise ApprovalRefused(f"'{who.name}' is {who.role}, not operator, and may not set the shadow.", "have an operator do it.")
    before, at, weight = lab.ledger.current(Role.SHADOW), present(lab), permille / 1000
    had = before.version if before else None
    if had == version and (version is None or (before is not None and before.weight == weight)):
        output.say("There is no shadow; nothing changed." if version is None else f"Version {version} is shadow already; nothing changed.")
        output.result({"version": version, "permille": permille, "changed": False, "assignment": before})
        return
    given = lab.ledger.assign(
        Role.SHADOW, version, replacing=before.id if before else None, kind="promotion", by=who.name, why=why, at=at, weight=weight
    )
    if version is None:
        output.say(f"Version {had} is shadow no longer, as of {shown(at)}: {why}")
    else:
        output.say(f"Version {version} scores {permille / 10:g} % of the requests beside the champion, as of {shown(at)}: {why}")
    served(output, lab)
    output.result({"version": version, "permille": permille, "changed": True, "assignment": given})
