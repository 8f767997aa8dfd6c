"""Numbers and moments as a reader wants them; a dash where there is nothing to tell."""

from datetime import datetime
from typing import Any

from mlops_lab.clock import from_iso

NOTHING = "–"  # noqa: RUF001  a dash, not a minus


OUTCOMES = {
    "ok": "ok",
    "watch": "watch",
    "retrain": "retrain",
    "rollback": "rollback",
    "data_incident": "data incident",
    "not_enough_data": "not enough data",
}


def count(number: float | None) -> str:
    """12,345."""
    return NOTHING if number is None else f"{number:,.0f}"


def decimal(number: float | None, places: int = 3) -> str:
    """0.713, with a true minus sign, and none before a zero."""
    return NOTHING if number is None else f"{round(number, places) + 0.0:.{places}f}".replace("-", "\N{MINUS SIGN}")


def signed(number: float | None, places: int = 3) -> str:
    """+0.017."""
    return NOTHING if number is None else f"{number:+.{places}f}".replace("-", "\N{MINUS SIGN}")


def share(number: float | None) -> str:
    """97.4 %."""
    return NOTHING if number is None else f"{number:.1%}".replace("%", "\N{NO-BREAK SPACE}%")


def plural(number: int, one: str, many: str = "") -> str:
    """1 week, 2 weeks."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def day(moment: str | datetime | None, year: bool = True) -> str:
    """18 Mar 2013."""
    if moment is None:
        return NOTHING
    at = from_iso(moment) if isinstance(moment, str) else moment
    return f"{at.day} {at:%b %Y}" if year else f"{at.day} {at:%b}"


def found(value: Any) -> str:
    """What a claim found, in one line of words."""
    if isinstance(value, list | tuple):
        return ", ".join(map(found, value)) or "nothing"
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: NOTHING}[value]
    return f"{value:,}" if isinstance(value, int) else str(value)


def outcome(kind: str) -> str:
    """A decision's outcome in words."""
    return OUTCOMES.get(kind, kind)
