"""`lab flows`: what a Prefect server runs for the platform, and making it known there."""

import click

from mlops_lab.cli.opened import open_lab
from mlops_lab.cli.output import Output


@click.group("flows", invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """The runs on the Prefect server that PREFECT_API_URL names. Without a word behind it: the newest ones.

    Where LAB_ORCHESTRATION__MODE is `deployments`, the server trains: by an automation when skill was lost, or because somebody ordered it.
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_runs)


@command.command("list")
@click.option("--limit", type=click.IntRange(1, 200), default=20, show_default=True, help="How many.")
@click.pass_obj
def list_runs(output: Output, limit: int) -> None:
    """List the newest runs, oldest first."""
    from mlops_lab.pipelines.prefect_api import PrefectApi

    runs = PrefectApi.of_environment(open_lab().settings.orchestration.timeout_s).runs(limit)
    output.table(["run", "state"], [[run.name, run.state.lower()] for run in runs])
    output.result({"runs": runs})


@command.command
@click.pass_obj
def register(output: Output) -> None:
    """Make the work pool, deployments and automations of the platform on the server. Again: changes nothing."""
    from mlops_lab.pipelines.prefect_api import PrefectApi

    PrefectApi.of_environment()  # says what to set before Prefect itself is imported
    from mlops_lab.pipelines.deployed.on_prefect import register as register_all

    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        output.say(text)

    register_all(say)
    output.result({"registered": said})
