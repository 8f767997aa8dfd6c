"""The year in one picture: ranking, the loss that was not foreseen, and what each week ended in, on one axis of event time."""

from functools import partial

from mlops_lab.demo.report import flags, svg
from mlops_lab.demo.report.axis import LEFT, RIGHT, WIDTH, gridline, key, months
from mlops_lab.demo.report.markup import Child, Markup, element
from mlops_lab.demo.report.svg import Point, Scale
from mlops_lab.demo.report.timeline import Record, Span, Week, marks, spans, weeks
from mlops_lab.demo.report.wording import OUTCOMES, day, decimal, outcome

SKILL, LOSS, DRIFT, CELL = 222.0, 112.0, 50.0, 20.0
HEAD = 38.0
"""Heights in pixels of the drawing: the panels, the room for a panel's name."""


def year(summary: Record) -> Markup | None:
    """The main chart; None where no week was decided."""
    decided = weeks(summary)
    if not decided:
        return None
    start, end = decided[0].window.start, decided[-1].window.end
    x = Scale(start.timestamp(), end.timestamp(), LEFT, RIGHT)
    shown = [mark for mark in marks(summary) if start <= mark.at <= end and not (mark.kind == "promotion" and mark.at == start)]
    rows = flags.rows(shown, x)
    top = 24 + flags.HEIGHT * (max(rows, default=-1) + 1) + 8
    loss = top + SKILL + HEAD + 6
    cells = loss + LOSS + HEAD
    drift = cells + CELL + 28
    bottom = drift + DRIFT
    served = [span for span in spans(summary) if span.end > start and span.start < end]
    return svg.drawing(
        "year",
        WIDTH,
        bottom + 22,
        "The year in production, week by week",
        "Three panels over the weeks of the year: ROC AUC of the champion beside a model that was never retrained; the unexplained loss "
        "with its interval; the outcome of each week and how many inputs moved. Every number is in the table of decisions below.",
        _hatch(),
        *[_band(span, x, top) for span in served],
        *months(x, start, end, [(top, SKILL), (loss, LOSS), (drift, DRIFT)], bottom + 16),
        *[flags.pole(mark, x, top - 12 - flags.HEIGHT * row, bottom) for mark, row in zip(shown, rows, strict=True)],
        *[_named(span, x, top) for span in served],
        *_skill(decided, x, top),
        *_loss(decided, x, loss),
        *_outcomes(decided, x, cells),
        *_drift(decided, x, drift),
        *[flags.flag(mark, x, top - 12 - flags.HEIGHT * row) for mark, row in zip(shown, rows, strict=True)],
        *[_hover(week, x, top, bottom) for week in decided],
    )


def _skill(decided: list[Week], x: Scale, top: float) -> list[Child]:
    values = [value for week in decided for value in (week.served, week.never) if value is not None] or [0.5, 1.0]
    steps = svg.ticks(min(values), max(values))
    y = Scale(steps[0], steps[-1], top + SKILL - 4, top + 24)
    served = [None if week.served is None else (x(week.middle.timestamp()), y(week.served)) for week in decided]
    never = [None if week.never is None else (x(week.middle.timestamp()), y(week.never)) for week in decided]
    legend = key(
        "ROC AUC per week",
        13,
        (lambda x, y: svg.line(x, y, x + 24, y, "served"), 24, "answers that were served"),
        (lambda x, y: svg.line(x, y, x + 24, y, "never"), 24, "never retrained: the first version on the same rows"),
    )
    dots = [element("circle", cx=point[0], cy=point[1], r=2.4, class_="served-dot") for point in served if point]
    return [
        *legend,
        *[gridline(y(step), f"{step:.2f}") for step in steps],
        *_between(served, never),
        svg.broken_line(never, "never"),
        svg.broken_line(served, "served"),
        *dots,
    ]


def _between(served: list[Point | None], never: list[Point | None]) -> list[Markup]:
    """The room between the two lines: gained where the served one is higher, lost where it is lower."""
    areas = []
    for (a, b), (c, d) in zip(zip(served, never, strict=True), list(zip(served, never, strict=True))[1:], strict=False):
        if not (a and b and c and d):
            continue
        before, after = b[1] - a[1], d[1] - c[1]
        if before * after < 0:
            part = before / (before - after)
            cross = (a[0] + (c[0] - a[0]) * part, a[1] + (c[1] - a[1]) * part)
            areas += [svg.polygon([a, cross, b], _won(before)), svg.polygon([cross, c, d], _won(after))]
        elif before or after:
            areas.append(svg.polygon([a, c, d, b], _won(before + after)))
    return areas


def _won(gain: float) -> str:
    return "gained" if gain > 0 else "lost"


def _loss(decided: list[Week], x: Scale, top: float) -> list[Child]:
    found = [(week, week.decision["unexplained"]) for week in decided if week.decision.get("unexplained")]
    steps = svg.ticks(min([0.0, *(u["low"] for _, u in found)]), max([0.01, *(u["high"] for _, u in found)]), 4)
    y = Scale(steps[0], steps[-1], top + LOSS, top)
    drawn: list[Child] = [
        *key(
            "Unexplained loss per week",
            top - 13,
            (lambda x, y: _estimate(x + 4, y - 7, y, y + 7, counts=True), 8, "counts: its whole 95 % interval over days lies above 0"),
            (lambda x, y: _estimate(x + 4, y - 7, y, y + 7, counts=False), 8, "does not"),
        ),
        *[gridline(y(step), decimal(step, 2), "zero" if step == 0 else "grid") for step in steps],
    ]
    for week, u in found:
        drawn.append(_estimate(x(week.middle.timestamp()), y(u["low"]), y(u["mean"]), y(u["high"]), week.decision["counts"]))
    return drawn


def _estimate(at: float, low: float, mean: float, high: float, counts: bool) -> Markup:
    """An interval and its mean."""
    class_ = "counts" if counts else "calm"
    dot = element("circle", cx=at, cy=mean, r=3.6 if counts else 2.6, class_=f"dot {class_}")
    return element("g", svg.line(at, low, at, high, f"interval {class_}"), dot)


def _square(kind: str, x: float, y: float) -> Markup:
    return element("g", svg.rect(x, y - 6, 12, 12, f"cell {kind}", rx=2), svg.glyph(kind, x + 6, y))


def _outcomes(decided: list[Week], x: Scale, top: float) -> list[Child]:
    present = {week.decision["outcome"] for week in decided}
    kinds = [*(kind for kind in OUTCOMES if kind in present), *sorted(present - set(OUTCOMES))]
    drawn = key("Outcome of each week", top - 9, *[(partial(_square, kind), 12, outcome(kind)) for kind in kinds])
    for week in decided:
        left, right = x(week.window.start.timestamp()), x(week.window.end.timestamp())
        drawn.append(svg.rect(left + 1, top, right - left - 2, CELL, f"cell {week.decision['outcome']}", rx=2.5))
        drawn.append(element("g", svg.glyph(week.decision["outcome"], (left + right) / 2, top + CELL / 2 + 0.5)))
    return drawn


def _drift(decided: list[Week], x: Scale, top: float) -> list[Child]:
    inputs = max([1, *(max(week.decision.get("inputs") or 0, len(week.decision["drifted"])) for week in decided)])
    y = Scale(0, inputs, top + DRIFT, top)
    drawn: list[Child] = [
        svg.text(0, top - 9, f"Inputs that moved, of {inputs}", "name"),
        *[gridline(y(step), f"{step:.0f}", "zero" if step == 0 else "grid") for step in (0, inputs)],
    ]
    for week in decided:
        left, right = x(week.window.start.timestamp()), x(week.window.end.timestamp())
        height = top + DRIFT - y(len(week.decision["drifted"]))
        drawn.append(svg.rect(left + 3, top + DRIFT - height, right - left - 6, height, "drift"))
    return drawn


def _band(span: Span, x: Scale, top: float) -> Markup:
    """The background of the weeks in which one version was champion."""
    left, right = _edges(span, x)
    kind = "forced" if span.kind == "override" else "even" if span.version % 2 == 0 else "odd"
    return svg.rect(left, top, right - left, SKILL, f"band {kind}")


def _named(span: Span, x: Scale, top: float) -> Markup:
    return svg.text(sum(_edges(span, x)) / 2, top + 13, f"v{span.version}", "band-name", "middle")


def _edges(span: Span, x: Scale) -> tuple[float, float]:
    return max(x(span.start.timestamp()), LEFT), min(x(span.end.timestamp()), RIGHT)


def _hatch() -> Markup:
    pattern = element("path", d="M-2,2 L2,-2 M0,8 L8,0 M6,10 L10,6", class_="hatch")
    return element("defs", element("pattern", pattern, id="hatch", width=8, height=8, patternUnits="userSpaceOnUse"))


def _hover(week: Week, x: Scale, top: float, bottom: float) -> Markup:
    """A column over the week that tells its numbers where a pointer rests on it."""
    d, left, right = week.decision, x(week.window.start.timestamp()), x(week.window.end.timestamp())
    unexplained = d.get("unexplained") or {}
    told = (
        f"{d['window']}, from {day(week.window.start)}\n"
        f"ROC AUC {decimal(week.served)}, never retrained {decimal(week.never)}\n"
        f"Unexplained loss {' / '.join(decimal(unexplained.get(part), 4) for part in ('low', 'mean', 'high'))} (low, mean, high)\n"
        f"{outcome(d['outcome'])}, {len(d['drifted'])} inputs moved"
    )
    return svg.rect(left, top, right - left, bottom - top, "hit", title=told)
