"""Printing for a person or for a program. With `--json` standard output holds exactly one JSON document, whatever happens.

A command takes the printer with `@click.pass_obj` and says everything twice in one go: `say` and `table` for the person, `result` for the
program. Neither has to ask which of the two is there.
"""

import dataclasses
import json
import math
import sys
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from enum import Enum
from pathlib import Path

import click

from mlops_lab.clock import iso
from mlops_lab.errors import LabError


class Output:
    """One per run of `lab`. `as_json` is set by `--json`, before or after the name of the command."""

    def __init__(self, as_json: bool = False) -> None:
        self.as_json = as_json

    def say(self, sentence: str) -> None:
        """A sentence for the person, as it happens: on standard output; with --json on standard error, so that nothing is kept quiet."""
        click.echo(sentence, err=self.as_json)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]], title: str = "") -> None:
        """Rows for the person; numbers to the right. Nothing with --json: `result` carries the same facts."""
        if self.as_json:
            return
        from rich import box  # rich costs a tenth of a second: not for `lab --help`, not for programs
        from rich.console import Console
        from rich.table import Table

        grid = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        for index, column in enumerate(columns):
            numbers = all(isinstance(row[index], int | float) for row in rows) and bool(rows)
            grid.add_column(column, justify="right" if numbers else "left", overflow="fold")
        for row in rows:
            grid.add_row(*(_cell(value) for value in row))
        console = Console(file=sys.stdout, highlight=False, markup=False, width=None if sys.stdout.isatty() else 140)
        with console.capture() as drawn:
            console.print(grid)
        click.echo("\n".join(line.rstrip() for line in drawn.get().strip("\n").splitlines() if line.strip()))

    def result(self, data: Mapping[str, object]) -> None:
        """The document for the program; nothing for the person. Call it once, last. Dataclasses, moments, paths, enums are known."""
        if self.as_json:
            click.echo(json.dumps(_plain(data), ensure_ascii=False, allow_nan=False, indent=2))

    def error(self, what: str, next_step: str) -> None:
        """What went wrong and what to do: two lines on standard error, or the document `{"error": {"what", "next"}}`."""
        if self.as_json:
            self.result({"error": {"what": what, "next": next_step}})
        else:
            click.echo(f"{what}\nNext: {next_step}", err=True)

    def lab_error(self, error: LabError) -> None:
        self.error(error.what, error.next_step)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M")
    return str(value)


def _plain(value: object) -> object:
    """The value as JSON knows it. A number that is not finite is written as null: JSON has no word for it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Enum):
        return _plain(value.value)
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, date | Path):
        return str(value)
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if hasattr(value, "item") and not isinstance(value, str | bytes):  # a numpy scalar, known by its shape: numpy is not imported here
        return _plain(value.item())
    return value
