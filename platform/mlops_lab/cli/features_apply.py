"""`lab features apply` and `lab features services`: what Feast is told, and what it knows of model versions."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from mlops_lab.cli.opened import open_lab
from mlops_lab.cli.output import Output

if TYPE_CHECKING:
    from mlops_lab.bootstrap import Lab
    from mlops_lab.features.on_feast_services import VersionService


@click.command
@click.pass_obj
def apply(output: Output) -> None:
    """Tell Feast's registry which rows there are, and what each model version reads.

    Again changes nothing. What a version reads is taken from its signed package.
    """
    from mlops_lab.bootstrap.version_services import register_versions

    lab = open_lab()
    show(output, lab, register_versions(lab))


@click.command
@click.pass_obj
def services(output: Output) -> None:
    """List the feature services: for each model version, the features that it reads, and what it is now."""
    from mlops_lab.bootstrap.feature_store import feature_store
    from mlops_lab.features import on_feast_services

    lab = open_lab()
    show(output, lab, on_feast_services.services(feature_store(lab.settings)))


def show(output: Output, lab: "Lab", found: "Sequence[VersionService]") -> None:
    """Print the services with what their versions are now, and what to do about versions that have none."""
    from mlops_lab.registry.version import Role

    roles: dict[int, list[str]] = {}
    for role in Role:
        line = lab.ledger.current(role)
        if line is not None and line.version is not None:
            roles.setdefault(line.version, []).append(role if line.weight == 1 else f"{role} {line.weight:.0%}")
    numbers = {version.number for version in lab.ledger.versions()}
    states = {one.version: str(lab.ledger.state(one.version)) if one.version in numbers else "not in the ledger" for one in found}
    rows = [
        [one.name, one.version, states[one.version], ", ".join(roles.get(one.version, ())), len(one.features), one.scorer_sha256[:12]]
        for one in found
    ]
    output.table(["feature service", "version", "state", "role", "features", "scorer"], rows)
    without = sorted(numbers - set(states))
    if without:
        output.say(f"Without a feature service: version {', '.join(map(str, without))}. Next: `lab features apply`.")
    elif not found:
        output.say("No model version is registered yet. Next: `lab train`, then `lab features apply`.")
    told = [one._asdict() | {"state": states[one.version], "roles": roles.get(one.version, [])} for one in found]
    output.result({"services": told, "without": without})
