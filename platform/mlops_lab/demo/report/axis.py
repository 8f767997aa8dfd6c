"""What the charts share: their width, the months of event time across it, and lines at a value."""

from datetime import UTC, datetime

from mlops_lab.demo.report import svg
from mlops_lab.demo.report.markup import Markup, element
from mlops_lab.demo.report.svg import Scale

WIDTH, LEFT, RIGHT = 920.0, 44.0, 908.0


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
