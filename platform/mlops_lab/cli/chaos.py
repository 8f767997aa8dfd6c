"""`lab chaos`: the promises of the platform, each tried by a fault, proven from outside."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlops_lab.cli.output import Output
from mlops_lab.errors import UsageError

if TYPE_CHECKING:
    from mlops_lab.bootstrap import Lab
    from mlops_lab.chaos import Fault, Result
    from mlops_lab.chaos.broker import Broker
    from mlops_lab.chaos.world import Sections

DOCS = Path(__file__).parents[2] / "docs"


@click.command
@click.argument("names", nargs=-1)
@click.option("--short/--long", default=True, show_default=True, help="A few minutes for CI, or the form whose result is committed.")
@click.option("--seed", type=click.IntRange(min=0), default=7, show_default=True, help="Of every random choice.")
@click.option("--list", "listing", is_flag=True, help="List the faults and what they promise.")
@click.option("--write", is_flag=True, help="Keep the results, and write platform/docs/faults.md from them.")
@click.option("--keep", is_flag=True, help="Leave the scratch homes with their histories and logs, and say where.")
@click.option("--broker", "start", metavar="COMMAND", help="Starts one Kafka broker of this machine and returns when it answers.")
@click.option("--broker-pid", "pid_file", metavar="FILE", type=click.Path(path_type=Path), help="Where that broker's pid stands.")
@click.pass_context
def command(
    ctx: click.Context,
    names: tuple[str, ...],
    short: bool,
    seed: int,
    listing: bool,
    write: bool,
    keep: bool,
    start: str | None,
    pid_file: Path | None,
) -> None:
    """Try to break the platform by the faults NAMES, or by all of them, and check from outside whether each promise held.

    \b
    lab chaos --list      what is tried, and what is promised
    lab chaos F6          kill -9 under load: is every acknowledged prediction in the log?
    lab chaos --long      everything, at full size

    Works in scratch folders and on ports of its own; a home and its services are not touched. Leaves with 1 when a promise did not hold.

    Some faults kill a broker with `kill -9` and start it again. Give one that may be killed: --broker with the command, --broker-pid with
    the file, and its address as LAB_EVENTS__KAFKA. Without them, those faults are left out unless they are NAMED.
    """
    output = ctx.ensure_object(Output)
    from mlops_lab.chaos.catalogue import CATALOGUE, fault_called
    from mlops_lab.cli.supervised import require_outside
    from mlops_lab.settings import load_settings

    broker = _broker(start, pid_file)
    chosen = [fault_called(name) for name in names] if names else list(CATALOGUE.values())
    if listing:
        if names or write:
            raise UsageError("Which of these?", "give --list alone, or the NAMES of faults to try.")
        output.table(["fault", "what is done", "promise", "figure"], [[f.id, f.does, f.promise, f.asked] for f in chosen])
        output.say("Next: `lab chaos F6` tries one, `lab chaos` all of them in their short form.")
        output.result({"faults": [{"id": f.id, "does": f.does, "promise": f.promise, "asked": f.asked} for f in chosen]})
        return
    require_outside(load_settings())
    if not names and broker is None:
        left_out = [fault.id for fault in chosen if fault.kills_broker]
        chosen = [fault for fault in chosen if not fault.kills_broker]
        output.say(f"Left out, for want of a broker that may be killed: {', '.join(left_out)}. `lab chaos --help` says how to give one.")
    results = _prove(output, chosen, short, seed, keep, write, broker)
    if write:
        output.say(f"Written: {DOCS / 'faults.md'}.")
    failed = [result.id for result in results if not result.finding.held]
    output.say(f"Did not hold: {', '.join(failed)}." if failed else f"All {len(results)} promises held.")
    output.result({"results": results, "held": not failed})
    ctx.exit(1 if failed else 0)


def _broker(start: str | None, pid_file: Path | None) -> "Broker | None":
    from mlops_lab.chaos.broker import BROKER_WANTED, Broker
    from mlops_lab.settings import PREFIX, load_settings

    if start is None and pid_file is None:
        return None
    if not start or pid_file is None:
        raise UsageError("A broker that may be killed needs both --broker and --broker-pid.", BROKER_WANTED)
    settings = load_settings()
    variables = {name: value for name, value in os.environ.items() if name.startswith(f"{PREFIX}EVENTS__")}
    return Broker(settings.events.kafka, start, pid_file, variables)


def _prove(
    output: Output, chosen: "Sequence[Fault[Any]]", short: bool, seed: int, keep: bool, write: bool, broker: "Broker | None"
) -> "list[Result]":
    from mlops_lab.chaos import Size
    from mlops_lab.chaos.catalogue import CATALOGUE
    from mlops_lab.chaos.runner import prove, require_tools
    from mlops_lab.chaos.world import World

    require_tools(chosen, broker)
    size = Size.SHORT if short else Size.LONG
    results: list[Result] = []
    with _scratch(keep) as folder, _settings_of_its_own(broker):
        world = World(folder, _lab_at, broker)
        busy = f"{os.getloadavg()[0]:.1f} processes want its {os.cpu_count()} cores"
        output.say(f"{len(chosen)} faults, {size} form, seed {seed}. On this machine {busy}; seconds are judged as if it were idle.")
        for fault, result in zip(chosen, prove(chosen, world, seed, size), strict=True):
            results.append(result)
            if write:
                _write(result)  # as they fall: who stops half an hour's run keeps what it found
            held = "held" if result.finding.held else "DID NOT HOLD"
            output.say(f"{fault.id:>4}  {held:<12} {result.seconds:6.1f} s  {fault.title}: {result.finding.measured}")
            for sentence in result.finding.broken:
                output.say(f"        {sentence}")
        if keep:
            output.say(f"The scratch homes are in {folder}.")
    rows = [[r.id, CATALOGUE[r.id].title, CATALOGUE[r.id].asked, r.finding.measured, r.finding.held, r.seconds] for r in results]
    output.table(["fault", "what was done", "figure asked", "figure measured", "held", "seconds"], rows)
    return results


@contextmanager
def _scratch(keep: bool) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="lab-chaos-"))
    # Ended by `timeout` or by CI it leaves no process and no mount behind either.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield folder
    finally:
        signal.signal(signal.SIGTERM, before)
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _settings_of_its_own(broker: "Broker | None") -> Iterator[None]:
    """Where the environment points to servers, a scratch home would be on them too, and a fault would be tried on somebody's ledger."""
    from mlops_lab.settings import PREFIX

    kept = (f"{PREFIX}DATA", f"{PREFIX}EVENTS__") if broker else (f"{PREFIX}DATA",)
    taken = {name: value for name, value in os.environ.items() if name.startswith(PREFIX) and not name.startswith(kept)}
    for name in taken:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(taken)


def _lab_at(home: Path, sections: "Sections") -> "Lab":
    from mlops_lab.bootstrap import Lab
    from mlops_lab.settings import load_settings

    return Lab(load_settings(home=home, **sections))


def _write(result: "Result") -> None:
    from mlops_lab.chaos.bugs import BUGS
    from mlops_lab.chaos.catalogue import CATALOGUE
    from mlops_lab.chaos.results import Kept, page, read_results, write_results

    write_results(DOCS / "faults.json", [Kept(result, f"{datetime.now(UTC):%Y-%m-%d}", _commit())])
    (DOCS / "faults.md").write_text(page(CATALOGUE, read_results(DOCS / "faults.json"), BUGS))


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=DOCS, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "no commit"
