"""The moments that changed what served, as flags above the chart whose poles reach through every panel."""

from mlops_lab.demo.report import svg
from mlops_lab.demo.report.axis import RIGHT
from mlops_lab.demo.report.markup import Markup, element
from mlops_lab.demo.report.svg import Scale
from mlops_lab.demo.report.timeline import Mark

HEIGHT = 17.0


def rows(shown: list[Mark], x: Scale) -> list[int]:
    """A row for each flag, from the right to the left, so that no pole crosses the words of a flag to its right."""
    taken: list[list[tuple[float, float]]] = []
    chosen: dict[int, int] = {}
    for index in reversed(range(len(shown))):
        left, right = _reach(shown[index], x)
        free = (r for r, used in enumerate(taken) if all(right + 6 < a or b + 6 < left for a, b in used))
        row = next(free, len(taken))
        if row == len(taken):
            taken.append([])
        taken[row].append((left, right))
        chosen[index] = row
    return [chosen[index] for index in range(len(shown))]


def _reach(mark: Mark, x: Scale) -> tuple[float, float]:
    at, width = x(mark.at.timestamp()), svg.width_of(mark.label) + 14
    return (at - width, at + 8) if at + width > RIGHT else (at - 8, at + width)


def pole(mark: Mark, x: Scale, y: float, bottom: float) -> Markup:
    """From the flag down through the panels."""
    at = x(mark.at.timestamp())
    return svg.line(at, y, at, bottom, f"pole {mark.kind}")


def flag(mark: Mark, x: Scale, y: float) -> Markup:
    """The shape and the words at the top of the pole."""
    at = x(mark.at.timestamp())
    turned = _reach(mark, x)[0] < at - 8
    words = svg.text(at - 10 if turned else at + 10, y + 4, mark.label, f"flag {mark.kind}", "end" if turned else None)
    return element("g", element("title", mark.why), svg.glyph(mark.kind, at, y), words, class_="mark")
