"""The report: one HTML file that opens anywhere. It needs no network and no script, and its policy forbids both."""

from pathlib import Path
from typing import Any

from mlops_lab.demo.report import charts, tables, versions_chart
from mlops_lab.demo.report.markup import Child, Markup, element
from mlops_lab.demo.report.timeline import Record, challengers
from mlops_lab.demo.report.verdict import all_claims, broken_claims
from mlops_lab.demo.report.wording import count, found, plural, share, signed

FILE = "report.html"
STYLE = Path(__file__).with_name("style.css")
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
UNEXPLAINED = (
    "Unexplained loss is the Brier score that the answers really had, minus the one the model itself expected, the mean of p(1 − p): "  # noqa: RUF001
    "above 0, the model is more wrong than it knows; a week that is merely hard to predict does not show."
)


def write(home: Path, summary: dict[str, Any]) -> Path:
    """Write the report whole or not at all."""
    path = home / FILE
    aside = path.with_suffix(".partial")
    aside.write_text(page(summary), encoding="utf-8", errors="replace")
    aside.replace(path)
    return path


def page(summary: Record) -> str:
    """The whole document."""
    head = (
        f'<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"<title>MLOps Lab: report of the demo</title><style>{STYLE.read_text(encoding='utf-8')}</style>"
    )
    body = element(
        "main",
        _top(summary),
        _figures(summary),
        _year(summary),
        _versions(summary),
        _refused(summary),
        _decisions(summary),
        _acts(summary),
        _check(summary),
    )
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>{body}</body></html>\n'


def _top(summary: Record) -> Markup:
    claims, broken = all_claims(summary), broken_claims(summary)
    passed = bool(summary["passed"]) and not broken
    title = (
        f"The loop closed: all {len(claims)} claims hold"
        if passed
        else f"Not proven: {len(broken)} of {plural(len(claims), 'claim')} broken"
    )
    return element(
        "header",
        element("p", "MLOps Lab · report of the demo", class_="eyebrow"),
        element("h1", title),
        element("p", _story(summary), class_="lead"),
        None if passed else element("ul", *[_broken(act, claim.sentence, claim.found) for act, claim in broken], class_="alarm"),
        class_="top passed" if passed else "top failed",
    )


def _broken(act: str, sentence: str, seen: Any) -> Markup:
    return element(
        "li", element("b", f"{act}: "), sentence, "" if seen is None else element("span", f" — found {found(seen)}", class_="small")
    )


def _story(summary: Record) -> str:
    decided = summary["decisions"]
    moved = sum(bool(d["drifted"]) for d in decided)
    lost = sum(d["outcome"] == "retrain" for d in decided)
    retrained = {v["version"] for v in summary["versions"] if v["origin"] == "retrain"}
    better = sum(one["kind"] == "promotion" and one["version"] in retrained for one in summary["assignments"])
    back = sum(one["kind"] == "rollback" for one in summary["assignments"])
    return (
        f"{plural(len(decided), 'week')} of real flights, replayed as live traffic. The inputs moved in {moved} of them; "
        f"only lost skill retrains, and skill was lost {plural(lost, 'time')}. {plural(better, 'retrained model')} earned the traffic, "
        f"{plural(len(challengers(summary)), 'challenger')} {'was' if len(challengers(summary)) == 1 else 'were'} refused, "
        f"{plural(back, 'champion')} {'was' if back == 1 else 'were'} rolled back."
    )


def _figures(summary: Record) -> Markup:
    promoted = sum(one["kind"] == "promotion" for one in summary["assignments"])
    refused = sum(one["judgement"] == "keep" for one in summary["versions"])
    attempts = sum(one["requests"] for one in summary["attempts"].values())
    seconds = summary["decay_to_better_model_s"]
    tiles = [
        ("Predictions", count(summary["predictions"]), "live answers over HTTP"),
        ("Labels joined", count(summary["labels"]), f"{share(summary['label_coverage'])} of the predictions, hours later"),
        ("Failed requests", count(summary["failed_requests"]), f"of {count(attempts)} sent"),
        ("Versions trained", count(len(summary["versions"])), f"{promoted} promoted, {refused} refused"),
        ("Weekly ROC AUC", signed(summary["mean_weekly_auc_gain"]), "mean gain over never retraining"),
        ("Lost skill → better model", "–" if seconds is None else f"{count(seconds)} s", "from found to answering, slowest case"),  # noqa: RUF001
    ]
    return element("dl", *[_tile(*tile) for tile in tiles], class_="tiles")


def _tile(name: str, value: str, note: str) -> Markup:
    return element("div", element("dt", name), element("dd", value, class_="value"), element("dd", note, class_="note"))


def _year(summary: Record) -> Markup:
    lost = [d["window"] for d in summary["decisions"] if d["outcome"] == "retrain"]
    moved = sum(bool(d["drifted"]) for d in summary["decisions"])
    told = (
        f"Inputs moved in {moved} of {plural(len(summary['decisions']), 'week')}. "
        f"Retraining is ordered only where skill was lost: {', '.join(lost) or 'never this year'}."
    )
    chart = charts.year(summary) or element("p", "No week was decided.")
    return _section("year", "The year in production", told, element("figure", chart, element("figcaption", UNEXPLAINED)))


def _versions(summary: Record) -> Markup:
    told = "Each version with its origin, its data, its judge and its time as champion. A version is judged on days it has not seen."
    chart = versions_chart.lives(summary)
    figure = None if chart is None else element("figure", chart)
    parts = [tables.versions(summary), element("h3", "Each change of champion"), tables.changes(summary)]
    return _section(
        "versions", "The versions", told, figure, *(parts if summary["versions"] else [element("p", "No version was trained.")])
    )


def _refused(summary: Record) -> Markup:
    told = "A gate refuses data, the judge refuses models, and nobody approves their own work."
    return _section(
        "refused",
        "What was refused, and why",
        told,
        tables.refusals(summary) if summary["refused"] else element("p", "Nothing was refused."),
    )


def _decisions(summary: Record) -> Markup:
    told = "Each week is decided once, when it has closed and its labels have arrived. A coloured edge marks a week that counts."
    shown = tables.decisions(summary) if summary["decisions"] else element("p", "No week was decided.")
    return _section("decisions", "The decisions", told, shown)


def _acts(summary: Record) -> Markup:
    told = (
        "Examined from the stores alone, after the demo had ended. Seconds: wall time from an act's first record to its last; acts overlap."
    )
    return _section("acts", "The six acts and their claims", told, element("div", *tables.acts(summary), class_="acts"))


def _check(summary: Record) -> Markup:
    entries = plural(summary["audit_entries"], "audit entry", "audit entries")
    commands = [
        ("lab demo --verify", "examines every claim above once more, from the stores, and compares the summary."),
        (
            "lab audit verify",
            f"recomputes the hash chain over {entries} and names the first bad one.",
        ),
        ("lab history", "tells each decision, and which version served at which time."),
    ]
    steps = [part for command, what in commands for part in (element("dt", element("code", command)), element("dd", what))]
    digests = [
        part
        for name, digest in summary["digests"].items()
        for part in (element("dt", f"digest of {name}"), element("dd", element("code", digest)))
    ]
    return _section(
        "check",
        "Check it yourself",
        "Do not believe this page: it only shows summary.json, which lies beside it. In the folder of the demo:",
        element("dl", *steps, class_="commands"),
        element("dl", *digests, class_="digests"),
    )


def _section(name: str, title: str, told: str, *parts: Child) -> Markup:
    return element("section", element("h2", title), element("p", told, class_="told"), *parts, id=name)
