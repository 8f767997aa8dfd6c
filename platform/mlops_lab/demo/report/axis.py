"""What the charts share: their width, the months of event time across it, and lines at a value."""

from collections.abc import Callable
from datetime import UTC, datetime

from mlops_lab.demo.report import svg
from mlops_lab.demo.report.markup import Child, Markup, element
from mlops_lab.demo.report.svg import Scale

WIDTH, LEFT, RIGHT = 920.0, 44.0, 908.0

Key = tuple[Callable[[float, float], Markup], float, str]
"""Draws a sample at (x, middle), how wide it is, what it stands for."""


def months(x: Scale, start: datetime, end: datetime, panels: list[tuple[float, float]], foot: float) -> list[Markup]:
    drawn, at = [], datetime(start.year, start.month, 1, tzinfo=UTC)
    while at < end:
        after = datetime(at.year + at.month // 12, at.month % 12 + 1, 1, tzinfo=UTC)
        if at > start:
            drawn += [svg.line(x(at.timestamp()), top, x(at.timestamp()), top + height, "month") for top, height in panels]
        left, right = x(max(at, start).timestamp()), x(min(after, end).timestamp())
        if right - left > 30:
            drawn.append(svg.text((left + right) / 2, foot, f"{at:%b}", "tick", "middle"))
        at = after
    return drawn


def gridline(y: float, label: str, class_: str = "grid") -> Markup:
    return element("g", svg.line(LEFT, y, RIGHT, y, class_), svg.text(LEFT - 7, y + 4, label, "tick", "end"))


def key(name: str, y: float, *keys: Key) -> list[Child]:
    """A panel's name and, beside it, what its marks stand for."""
    drawn: list[Child] = [svg.text(0, y, name, "name")] if name else []
    x = svg.width_of(name) + 22 if name else LEFT
    for sample, width, meaning in keys:
        drawn += [sample(x, y - 4), svg.text(x + width + 7, y, meaning, "key")]
        x += width + 7 + svg.width_of(meaning) * 0.9 + 18
    return drawn
