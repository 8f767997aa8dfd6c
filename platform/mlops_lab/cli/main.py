"""The `lab` command. This module lists the commands in the order of the loop and imports only the one that was asked for."""

import importlib
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple, NoReturn

import click

from mlops_lab.cli.output import Output
from mlops_lab.errors import LabError, UnknownName


class Entry(NamedTuple):
    """A command before its module is imported: where it is and what it is for, in one sentence."""

    module: str
    sentence: str


START_HERE = """\b
lab demo       the whole loop on real flights of 2013, in minutes
lab history    what happened in it: each decision, and what served when
lab break      list the villains, let one loose, watch the platform answer"""

# In the order of the loop; `break` is a word of Python's own, hence the underscore of its module.
LOOP: dict[str, dict[str, Entry]] = {
    "Everything at once": {
        "demo": Entry("demo", "Run the whole loop on real flights, and report what happened."),
        "up": Entry("up", "Start the services of this machine and wait until they answer."),
        "status": Entry("status", "Show which services run, where, and since when."),
        "down": Entry("down", "Stop all services of this home, and nothing else."),
    },
    "The loop, step by step": {
        "begin": Entry("begin", "Go from an empty home to a first model that serves, once."),
        "ingest": Entry("ingest", "Take a batch of data through the gate, or into quarantine."),
        "train": Entry("train", "Turn accepted data into one registered challenger."),
        "judge": Entry("judge", "Compare challenger and champion on the same rows."),
        "promote": Entry("promote", "Approve a judged challenger and let it take the traffic."),
        "shadow": Entry("shadow", "Let a version score beside the champion, unseen by callers."),
        "canary": Entry("canary", "Give a challenger a share of the requests, and see how it does."),
        "replay": Entry("replay", "Let time go by: flights ask, outcomes arrive hours later."),
        "watch": Entry("watch", "Close a week: quality, drift, skill, and one decision."),
        "policy": Entry("policy", "Show when it retrains, with its false alarms and misses."),
        "rollback": Entry("rollback", "Give the traffic back to the version before."),
        "break": Entry("break_", "Let a fault loose and see what the platform does about it."),
        "chaos": Entry("chaos", "Try to break the service; see from outside what holds."),
    },
    "What happened, and can it be trusted": {
        "history": Entry("history", "Tell what was decided, and what served at which time."),
        "gates": Entry("gates", "Read the verdicts of the data gates, with examples."),
        "events": Entry("events", "See what travels on the event bus, and what could not be used."),
        "features": Entry("features", "See how fresh the online features are, and fill their store anew."),
        "flows": Entry("flows", "See what Prefect ran, and register what it is to run."),
        "log": Entry("log", "Find predictions in the log and its tables, each exactly once."),
        "keys": Entry("keys", "List, rotate and retire the keys that sign models."),
        "audit": Entry("audit", "Verify the audit trail, entry by entry."),
        "doctor": Entry("doctor", "Find what usually goes wrong on a machine, and the way out."),
    },
}
COMMANDS: dict[str, Entry] = {name: entry for section in LOOP.values() for name, entry in section.items()}


class LoopGroup(click.Group):
    """A group that knows its commands by name and sentence, and imports a command's module when that command runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        command = importlib.import_module(f"mlops_lab.cli.{entry.module}").command
        if not isinstance(command, click.Command):
            raise TypeError(f"mlops_lab/cli/{entry.module}.py: `command` is a {type(command).__name__}, not a click command")
        command.name = cmd_name
        return with_json(command)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise UnknownName.of("command", args[0], COMMANDS)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, section in LOOP.items():
            with formatter.section(title):
                formatter.write_dl([(name, entry.sentence) for name, entry in section.items()])


def with_json(command: click.Command) -> click.Command:
    """Give a command, and all commands below it, the option --json. Giving it twice changes nothing."""
    if not any("--json" in parameter.opts for parameter in command.params):
        command.params.append(_json_option())
    if isinstance(command, click.Group):
        for below in command.commands.values():
            with_json(below)
    return command


def _json_option() -> click.Option:
    def remember(ctx: click.Context, _: click.Parameter, given: bool) -> None:
        if given:
            ctx.ensure_object(Output).as_json = True

    return click.Option(
        ["--json"], is_flag=True, is_eager=True, expose_value=False, callback=remember, help="One JSON document instead of text."
    )


@click.group(
    cls=LoopGroup,
    params=[_json_option()],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    subcommand_metavar="COMMAND ...",
    options_metavar="[--json]",
    help=(
        "An MLOps platform whose loop closes: data passes a gate, a model is trained, judged, promoted and served, "
        f"its skill is watched on real outcomes, and a better one takes over.\n\nStart here:\n\n{START_HERE}"
    ),
    epilog="`lab COMMAND --help` explains one. Settings are LAB_* variables; all state is in one folder, LAB_HOME.",
)
@click.version_option(package_name="mlops-lab", prog_name="lab", message="%(prog)s %(version)s")
def cli() -> None:
    """The root; its text is above, since it is built from parts."""


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code: 0, that of a LabError, 2 for a wrong call, 130 after Ctrl-C."""
    output = Output(as_json="--json" in arguments)
    try:
        if os.environ.get("LAB_PROFILE") == "compose":
            from mlops_lab.cli.on_stack import is_for_stack, run_on_stack  # late: `lab --help` of everybody else needs none of it

            if is_for_stack(arguments):
                return run_on_stack(arguments)
        code = cli.main(args=list(arguments), prog_name="lab", standalone_mode=False, obj=output)
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as shown:
        click.echo(shown.format_message(), color=shown.ctx.color if shown.ctx else None)
        return 0
    except LabError as error:
        output.lab_error(error)
        return error.exit_code
    except click.ClickException as error:
        path = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "lab"
        output.error(f"{error.format_message().rstrip('.')}.", f"see `{path} --help`.")
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        kept = "services that `lab up` started keep running: `lab status` shows them, `lab down` stops them."
        if os.environ.get("LAB_PROFILE") == "inside":
            kept = "the stack goes on: `lab status` shows it, `make down` on its host stops it."
        output.error("Stopped by Ctrl-C.", kept)
        return 130
    except BrokenPipeError:
        # The reader (`| head`) has seen enough. Python flushes once more at exit, which must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code if isinstance(code, int) else 0


def main() -> NoReturn:
    """The entry point `lab`."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
