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
    """List the feature services: for each model version, the features that it reads."""
    from mlops_lab.bootstrap.feature_store import feature_store
    from mlops_lab.features import on_feast_services

    lab = open_lab()
    show(output, lab, on_feast_services.services(feature_store(lab.settings)))


def show(output: Output, lab: "Lab", found: "Sequence[VersionService]") -> None:
    """Print the services with the state of their versions, and what to do where there are none."""
    rows = [[one.name, one.version, lab.ledger.state(one.version), len(one.features), one.scorer_sha256[:12]] for one in found]
    output.table(["feature service", "version", "state", "features", "scorer"], rows)
    if not found:
        output.say("No model version has a feature service. Next: `lab train` registers a version, `lab features apply` tells Feast.")
    output.result({"services": [one._asdict() for one in found]})
