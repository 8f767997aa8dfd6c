"""The few marks that our charts are made of. Colours are classes, so that the style sheet can turn them for the dark and for paper."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mlops_lab.demo.report.markup import Child, Markup, element

Point = tuple[float, float]

GLYPHS = {
    "promotion": "M0,-5.5 L5,3.5 L-5,3.5 Z",
    "override": "M0,-6 L6,0 L0,6 L-6,0 Z",
    "rollback": "M-5.5,0 L3.5,-5 L3.5,5 Z",
    "refusal": "M-4,-4 L4,4 M4,-4 L-4,4",
    "retrain": "M0,-5.5 L5,3.5 L-5,3.5 Z",
    "data_incident": "M-1,-5.5 H1 L0.7,1.5 H-0.7 Z M-1,3.3 H1 V5.3 H-1 Z",
    "until": "M0,-5 L5,0 L0,5 L-5,0 Z",
    "not_enough_data": "M-4,-0.8 H4 V0.8 H-4 Z",
}
"""Shapes around (0, 0): a mark is told by its shape, not by its colour alone."""


@dataclass(frozen=True)
class Scale:
    """Values lo..hi onto pixels at..to."""

    lo: float
    hi: float
    at: float
    to: float

    def __call__(self, value: float) -> float:
        return self.at + (value - self.lo) / ((self.hi - self.lo) or 1.0) * (self.to - self.at)


def ticks(lo: float, hi: float, about: int = 5) -> list[float]:
    """Round values that cover lo..hi."""
    raw = max(hi - lo, 1e-9) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.floor(lo / step + 1e-9), math.ceil(hi / step - 1e-9)
    return [round(i * step, 10) for i in range(first, max(last, first + 1) + 1)]


def text(x: float, y: float, words: Child, class_: str = "", anchor: str | None = None) -> Markup:
    return element("text", words, x=x, y=y, class_=class_ or None, text_anchor=anchor)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def rect(x: float, y: float, width: float, height: float, class_: str, title: str | None = None, rx: float | None = None) -> Markup:
    inside = None if title is None else element("title", title)
    return element("rect", inside, x=x, y=y, width=max(width, 0.0), height=max(height, 0.0), class_=class_, rx=rx)


def glyph(kind: str, x: float, y: float) -> Markup | None:
    """The shape of a kind of mark; None where it has none."""
    if kind not in GLYPHS:
        return None
    return element("path", d=GLYPHS[kind], transform=f"translate({x:.1f} {y:.1f})", class_=f"glyph {kind}")


def broken_line(points: Sequence[Point | None], class_: str) -> Markup:
    """A line that is lifted where a point is missing."""
    steps, pen = [], "M"
    for point in points:
        if point is None:
            pen = "M"
            continue
        steps.append(f"{pen}{point[0]:.1f},{point[1]:.1f}")
        pen = "L"
    return element("path", d=" ".join(steps), class_=class_)


def polygon(points: Sequence[Point], class_: str) -> Markup:
    return element("polygon", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points), class_=class_)


def width_of(words: str) -> float:
    """About how wide a bold text is, in pixels, on the generous side: there is no font to ask."""
    return len(words) * 6.7


def drawing(name: str, width: float, height: float, title: str, description: str, *children: Child) -> Markup:
    """A whole drawing, named and described for who cannot see it."""
    head = [element("title", title, id=f"{name}-title"), element("desc", description, id=f"{name}-desc")]
    return element(
        "svg",
        *head,
        *children,
        viewBox=f"0 0 {width:.0f} {height:.0f}",
        role="img",
        aria_labelledby=f"{name}-title {name}-desc",
        class_="chart",
    )
