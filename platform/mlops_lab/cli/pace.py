"""How fast time goes by and where it begins, as they are written on the command line."""

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:  # imported inside: `lab replay --help` needs none of it
    from mlops_lab.monitoring.window import Window

_MONTHS = ["january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december"]
_YEAR = 2013


class Speed(click.ParamType[float]):
    """Event time by wall time: 2000x, or 2000."""

    name = "speed"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"(\d+(?:\.\d+)?)x?", str(value).strip().lower())
        if found is None or not float(found[1]):
            self.fail(f"'{value}' is no speed; write it like 2000x, which lets a week take five minutes", param, ctx)
        return float(found[1])


class Start(click.ParamType["Window"]):
    """The week that production begins with: june or 2013-06 (the first whose Thursday lies in it), 2013-W23, or a day of the week."""

    name = "start"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> "Window":
        from mlops_lab.flights import source
        from mlops_lab.monitoring.window import Window

        if isinstance(value, Window):
            return value
        text = str(value).strip()
        months = [number for number, name in enumerate(_MONTHS, 1) if len(text) >= 3 and name.startswith(text.lower())]
        if months:
            return source.weeks_of_month(f"{_YEAR}-{months[0]:02d}")[0]
        try:
            if re.fullmatch(r"\d{4}-W\d{2}", text):
                return Window.of_week(text)
            if re.fullmatch(r"\d{4}-\d{2}", text) and (weeks := source.weeks_of_month(text)):
                return weeks[0]
            return Window.containing(datetime.fromisoformat(text).replace(tzinfo=UTC))
        except ValueError:
            self.fail(f"'{value}' is no beginning; write it like june, 2013-06, 2013-W23 or 2013-06-03", param, ctx)
