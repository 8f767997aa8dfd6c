"""Each version's life on one axis: what it was trained up to, the days it was judged on, the weeks it was champion."""

from mlops_lab.clock import from_iso
from mlops_lab.demo.report import svg
from mlops_lab.demo.report.axis import LEFT, RIGHT, WIDTH, key, months
from mlops_lab.demo.report.markup import Child, Markup, element
from mlops_lab.demo.report.svg import Scale
from mlops_lab.demo.report.timeline import Record, Span, spans
from mlops_lab.demo.report.wording import day

ROW, TOP = 30.0, 30.0


def lives(summary: Record) -> Markup | None:
    """A row per version; None where there is nothing to lay out."""
    served = spans(summary)
    if not served or not summary["versions"]:
        return None
    known = [from_iso(v["trained_until"]) for v in summary["versions"] if v["trained_until"]]
    start, end = min([*known, served[0].start]), max(span.end for span in served)
    x = Scale(start.timestamp(), end.timestamp(), LEFT + 8, RIGHT - 2)
    drawn = key(
        "",
        13,
        (lambda x, y: element("g", svg.glyph("until", x + 5, y)), 10, "trained until here"),
        (lambda x, y: svg.line(x, y, x + 26, y, "unseen"), 26, "days it had not seen, for the judge"),
        (lambda x, y: svg.rect(x, y - 6, 26, 12, "life", rx=3), 26, "champion"),
        (lambda x, y: svg.rect(x, y - 6, 26, 12, "life forced", rx=3), 26, "champion by override"),
    )
    for row, version in enumerate(summary["versions"]):
        drawn += _life(version, [span for span in served if span.version == version["version"]], x, TOP + ROW * row)
    bottom = TOP + ROW * len(summary["versions"])
    return svg.drawing(
        "lives",
        WIDTH,
        bottom + 20,
        "The versions over the year",
        "One row per model version: until when its training data reach, and when it was champion. The same is in the table below.",
        *months(x, start, end, [(TOP, bottom - TOP)], bottom + 15),
        *drawn,
    )


def _life(version: Record, served: list[Span], x: Scale, top: float) -> list[Child]:
    middle = top + ROW / 2
    drawn: list[Child] = [
        svg.text(LEFT - 12, middle + 4, f"v{version['version']}", "row-name", "end"),
        svg.line(LEFT, top + ROW, RIGHT, top + ROW, "grid"),
    ]
    until = from_iso(version["trained_until"]) if version["trained_until"] else None
    if until and served:
        drawn.append(svg.line(x(until.timestamp()), middle, x(served[0].start.timestamp()), middle, "unseen"))
    for span in served:
        left, right = x(span.start.timestamp()), x(span.end.timestamp())
        told = f"Version {span.version}, {span.kind}: champion from {day(span.start)} to {day(span.end)}"
        drawn.append(svg.rect(left, middle - 7, right - left, 14, "life forced" if span.kind == "override" else "life", told, rx=3))
    if until:
        drawn.append(element("g", element("title", f"Trained until {day(until)}"), svg.glyph("until", x(until.timestamp()), middle)))
    if not served:
        drawn.append(svg.text(x(until.timestamp()) + 12 if until else LEFT + 8, middle + 4, "never champion", "key"))
    return drawn
