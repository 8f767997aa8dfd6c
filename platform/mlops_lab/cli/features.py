"""`lab features`: the online features, for people."""

import click

from mlops_lab.cli.features_apply import apply, services
from mlops_lab.cli.features_check import check
from mlops_lab.cli.features_history import history
from mlops_lab.cli.features_rebuild import rebuild
from mlops_lab.cli.features_show import show
from mlops_lab.cli.features_status import status


@click.group("features", invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """See how fresh the online features are, what a model saw of a question, and fill their store anew.

    Without a word behind it: the status.
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(status)


for each in (status, show, check, rebuild, apply, services, history):
    command.add_command(each)
