"""`lab up --with`: which bus and which online store a home uses, and changing them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from mlops_lab.cli.output import Output
from mlops_lab.errors import ServiceError, SettingsWrong, UsageError

if TYPE_CHECKING:
    from mlops_lab.bootstrap.chosen import Chosen
    from mlops_lab.bootstrap.parts import Part
    from mlops_lab.settings import Settings

NAMES = ("embedded", "kafka", "sqlite", "redis")


class Parts(click.ParamType["Chosen"]):
    """Parts by name, such as kafka,redis. They are all of it: what is not named is the embedded one."""

    name = "parts"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> "Chosen":
        from mlops_lab.bootstrap.chosen import Chosen, Store, checked

        if isinstance(value, Chosen):
            return value
        names = {name.strip() for name in str(value).split(",")}
        if unknown := names.difference(NAMES):
            self.fail(f"{sorted(unknown)[0]!r} is no part; name some of {', '.join(NAMES)}", param, ctx)
        if {"embedded", "kafka"} <= names or {"sqlite", "redis"} <= names:
            self.fail("a home has one bus (embedded or kafka) and one store (sqlite or redis)", param, ctx)
        store: Store = "redis" if "redis" in names else "sqlite" if "sqlite" in names else "process"
        return checked(Chosen("kafka" if "kafka" in names else "embedded", store))


def use(output: Output, settings: "Settings", wanted: "Chosen", leave_behind: bool = False) -> None:
    """Let the home use these parts from now on. What has been recorded already does no harm to say again.

    Args:
        output: Where to say what happens.
        settings: Of the home.
        wanted: Its parts.
        leave_behind: Take nothing along from the former bus.

    Raises:
        UsageError: Services run, or the environment says another thing.
        ServiceError: A part does not answer; nothing was recorded.
    """
    from mlops_lab.bootstrap.chosen import Chosen, chosen, record, with_parts
    from mlops_lab.bootstrap.parts import make_ready

    _require_said_once(settings, wanted)
    try:
        before = chosen(settings)
    except SettingsWrong as error:  # whatever it was: it is written anew
        output.say(f"{error.what} It is written anew, and nothing can be taken along.")
        before, leave_behind = Chosen(), True
    if before != wanted:
        _require_down(settings, before)
    fresh = with_parts(settings, wanted)
    make_ready(fresh, output.say)
    if before.bus != wanted.bus:
        if leave_behind:
            output.say(f"What is on the former bus ({before.bus}) stays there: features are missing until new facts come.")
        else:
            _take_along(output, with_parts(settings, before), fresh)
    record(settings.home, wanted)
    if before != wanted:
        output.say(f"This home uses now: events {wanted.bus}, features {wanted.store}.")


def show_parts(output: Output, parts: "Sequence[Part]") -> None:
    """Which parts there are, where, and whether they answer."""
    output.table(["part", "kind", "address", "answers"], [[part.name, part.kind, part.address, not part.trouble] for part in parts])
    for part in parts:
        if part.trouble:
            output.say(f"{part.trouble}\nNext: {part.next}")


def _require_said_once(settings: "Settings", wanted: "Chosen") -> None:
    for name, said, asked in (
        ("LAB_EVENTS__BUS", settings.events.bus, wanted.bus),
        ("LAB_FEATURES__STORE", settings.features.store, wanted.store),
    ):
        if said and said != asked:
            raise UsageError(f"{name} says '{said}', and --with asks for '{asked}'.", f"unset {name}: it comes before what a home records.")


def _require_down(settings: "Settings", before: "Chosen") -> None:
    from mlops_lab.embedded import Supervisor

    running = [status.name for status in Supervisor(settings.home).status() if status.pid]
    if running:
        raise UsageError(
            f"Services run with events {before.bus} and features {before.store}: {', '.join(running)}.",
            "`lab down`, then this command again; parts are not changed under a running service.",
        )


def _take_along(output: Output, before: "Settings", fresh: "Settings") -> None:
    from mlops_lab.bootstrap import Lab
    from mlops_lab.pipelines.moving import take_along

    try:
        carried = take_along(Lab(before), Lab(fresh))
    except ServiceError as error:
        raise ServiceError(error.what, f"{error.next_step.rstrip('.')}; --leave-behind changes the bus without it.") from error
    if carried:
        output.table(["taken along", "events", "left"], [[each.topic, each.taken, each.left] for each in carried])
        output.say("The last 36 hours of facts and plans, all references, and what was not worked on. What is older stays where it is.")
