"""`lab features status`: how far the stream processor is, and what the online store holds."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from mlops_lab.cli.opened import shown
from mlops_lab.cli.output import Output
from mlops_lab.errors import LabError

if TYPE_CHECKING:
    from mlops_lab.bootstrap import Lab
    from mlops_lab.features.rows import Progress
    from mlops_lab.pipelines.feature_status import FeatureStatus

SILENT_S = 30.0
"""A processor speaks every second, and while it waits for what does not answer at least so often."""


@click.command
@click.pass_obj
def status(output: Output) -> None:
    """Show how far the stream processor is: watermark, lag, counts, rows by kind, and what the online store says. Nothing is changed.

    The watermark is the event time up to which all facts are in the rows, but for those that come later than LAB_FEATURES__LATENESS_S.
    """
    from mlops_lab.bootstrap import Lab
    from mlops_lab.bootstrap.chosen import chosen
    from mlops_lab.bootstrap.running import is_inside
    from mlops_lab.features.shard import GROUP
    from mlops_lab.pipelines.feature_status import read_status, status_file
    from mlops_lab.settings import load_settings

    lab = Lab(load_settings())
    parts = chosen(lab.settings)
    if parts.store == "process":
        output.say("Each replica keeps the features in its own process: there is no store, and no processor that fills it.")
        how = "`make up PROFILE=streaming`" if is_inside(lab.settings) else "`lab up --with sqlite` or `lab up --with kafka,redis`"
        output.say(f"Next: {how} puts them into Feast's online store.")
        output.result({"bus": parts.bus, "store": parts.store, "runs": False, "processor": None, "progress": None})
        return
    said = read_status(status_file(lab.home, GROUP))
    alive = said is not None and _alive(lab, said)
    progress, why = _in_store(lab)
    if said is None:
        output.say("The processor has not run in this home yet. Next: `lab up` starts it.")
    else:
        _show(output, said, alive, lab.clock.now().timestamp() - said.at_s)
    _show_store(output, parts.store, progress, why, said)
    output.result(
        {
            "bus": parts.bus,
            "store": parts.store,
            "runs": alive,
            "processor": said,
            "progress": None if progress is None else progress._asdict(),
            "store_trouble": why,
        }
    )


def _alive(lab: "Lab", said: "FeatureStatus") -> bool:
    """What the supervisor knows, else whether it spoke lately: it may run in a container of its own."""
    from mlops_lab.bootstrap.services import FEATURES
    from mlops_lab.embedded import Supervisor

    ours = [status for status in Supervisor(lab.home).status() if status.name == FEATURES]
    if ours:
        return bool(ours[0].pid)
    return said.state != "stopped" and lab.clock.now().timestamp() - said.at_s < SILENT_S


def _show(output: Output, said: "FeatureStatus", alive: bool, age_s: float) -> None:
    # A process that was killed could not say that it stopped, so what it said last is taken for what it is.
    state = said.state if alive or said.state == "stopped" else "gone"
    anew = f"{said.rewritten} times, last {said.rewritten_rows:,} rows in {said.rewritten_ms:,} ms" if said.rewritten else "never"
    facts: list[tuple[str, Any]] = [
        ("processor", f"{state}, as it said {max(0.0, age_s):,.0f} s ago"),
        ("watermark (event time)", _moment(said.watermark_s)),
        ("not in yet", f"{sum(map(sum, said.lag.values())):,} events"),
        *((name, f"{said.counts.get(key, 0):,}") for key, name in _COUNTS.items()),
        ("written anew", anew),
    ]
    output.table(["features", "since the processor began"], [list(fact) for fact in facts])
    output.table(
        ["topic", "partition", "offset", "behind"],
        [
            [topic, number, offset, said.lag[topic][number] if topic in said.lag else None]
            for topic, offsets in said.offsets.items()
            for number, offset in enumerate(offsets)
        ],
    )
    output.table(["rows of", "number"], [[view, number] for view, number in sorted(said.rows.items())])
    if said.trouble is not None and alive:
        output.say(f"It waits since {_moment(said.trouble['since_s'])}: {said.trouble['why']}")
        output.say(f"Next: {said.trouble['next']}")
    elif not alive:
        output.say("It does not run: features grow older and are then missing. Next: `lab up` starts it.")
    elif said.counts.get("dead"):
        output.say("Next: `lab events dead observations` shows what could not be used, and why.")


_COUNTS = {
    "applied": "taken in",
    "late": "of those late",
    "too_late": "too late to matter",
    "dead": "dead letters",
    "passed_over": "passed over after a restart",
}


def _show_store(output: Output, store: str, progress: "Progress | None", why: str | None, said: "FeatureStatus | None") -> None:
    if why is not None:
        output.say(f"The online store ({store}): {why}")
    elif progress is None:
        output.say(f"The online store ({store}) is empty.")
    else:
        ours = "" if said is None or said.epoch == progress.epoch else ", by another processor than the one above"
        output.say(f"The online store ({store}) was written at {_moment(progress.written_at_s)}{ours}.")


def _in_store(lab: "Lab") -> "tuple[Progress | None, str | None]":
    """What stands beside the rows, or why it cannot be read."""
    from mlops_lab.bootstrap.chosen import chosen
    from mlops_lab.bootstrap.feature_progress import feature_progress
    from mlops_lab.features.on_sqlite import FILE

    if chosen(lab.settings).store == "sqlite" and not (lab.home / FILE).is_file():
        return None, None  # it would be made by looking
    keeper = feature_progress(lab.settings)
    try:
        return keeper.read(), None
    except LabError as error:
        return None, error.what
    finally:
        keeper.close()


def _moment(at_s: float) -> str:
    return shown(datetime.fromtimestamp(at_s, UTC)) if at_s else "-"
