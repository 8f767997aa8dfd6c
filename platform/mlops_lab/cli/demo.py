"""`lab demo`: the whole loop on real flights in one go, then the proof that it happened."""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlops_lab.cli.output import Output
from mlops_lab.errors import EvidenceMissing
from mlops_lab.settings import load_settings

if TYPE_CHECKING:
    from mlops_lab.bootstrap import Lab


@click.command
@click.option("--verify", is_flag=True, help="Do not run anything: examine what the last demo left, from its stores alone.")
@click.pass_obj
def command(output: Output, verify: bool) -> None:
    """Run the whole loop on a year of real flights: train, validate, promote, serve, monitor, retrain.

    It starts its own services, takes some minutes, and stops them again. At the end every act is examined from the stores
    alone; the exit code is 0 only if all of them really happened. `lab demo --verify` examines once more at any time.
    """
    from mlops_lab.bootstrap import Lab
    from mlops_lab.bootstrap.services import QUIET
    from mlops_lab.cli.supervised import require_outside
    from mlops_lab.demo.fresh_home import fresh_home

    os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
    settings = load_settings()
    home: Path = settings.home
    began = time.monotonic()
    if not verify:
        require_outside(settings)
        fresh_home(home, output.say)
        _tell_story(output, Lab(settings))
    _examine(output, Lab(settings), verify, began)


def _tell_story(output: Output, lab: "Lab") -> None:
    from mlops_lab.cli.telling import Terminal
    from mlops_lab.demo.story import Story

    terminal = Terminal(output, lab)
    with terminal:
        Story(lab, terminal.teller()).run()


def _examine(output: Output, lab: "Lab", verify: bool, began: float) -> None:
    from mlops_lab.demo import report
    from mlops_lab.demo.stores import Stores
    from mlops_lab.demo.summary import FILE, compare, summarise, write

    if not lab.has_begun:
        raise EvidenceMissing(f"{lab.home} holds no finished demo.", "run `make demo` first.")
    output.say("")
    output.say("Examining the stores: audit, ledger, tables, catalog, journal, orchestrator ...")
    stores = Stores(lab)
    summary = summarise(stores)
    broken = [f"{step['id']}: {sentence}" for step in summary["steps"] for sentence in step["broken"]]
    if verify:
        broken += compare(lab.home / FILE, summary)
    else:
        write(lab.home, summary)
        report.write(lab.home, summary)
    output.table(
        ["act", "what", "holds", "claims", "seconds"],
        [[s["id"], s["title"], "yes" if s["passed"] else "NO", len(s["evidence"]), s["seconds"]] for s in summary["steps"]],
    )
    gain, seconds = summary["mean_weekly_auc_gain"], summary["decay_to_better_model_s"]
    figures = [
        ["predictions asked over HTTP", f"{summary['predictions']:,}"],
        ["labels joined later, coverage", f"{summary['labels']:,}, {summary['label_coverage']:.1%}"],
        ["failed requests", summary["failed_requests"]],
        ["answers by what features were worth", ", ".join(f"{n:,} {state}" for state, n in summary["answers_by_features"].items())],
        ["times a replica lost the event bus", stores.bus_losses],
        ["versions trained, promoted, refused", _versions(summary)],
        ["weekly ROC AUC, gain over never retraining", "none" if gain is None else f"{gain:+.4f}"],
        ["from lost skill found to better model answering", "none" if seconds is None else f"{seconds} s"],
        ["audit entries, all verified", summary["audit_entries"]],
    ]
    output.table(["figure", "value"], figures)
    output.say(f"Report:  {lab.home / report.FILE}")
    output.say(f"Summary: {lab.home / FILE}")
    if not verify:
        output.say(f"Took {time.monotonic() - began:.0f} s. See it live with `lab up`; check it again with `lab demo --verify`.")
    output.result(summary)
    if broken:
        raise EvidenceMissing(
            f"{len(broken)} claims do not hold, first {broken[0]}", "see `broken` in the summary, and the logs of the home."
        )


def _versions(summary: dict[str, object]) -> str:
    versions, assignments = summary["versions"], summary["assignments"]
    assert isinstance(versions, list)
    assert isinstance(assignments, list)
    promoted = sum(one["kind"] == "promotion" for one in assignments)
    refused = sum(one["judgement"] == "keep" for one in versions)
    return f"{len(versions)}, {promoted}, {refused}"
