"""The parts of the page that are tables: versions, refusals, decisions, and the acts with their claims."""

import re

from mlops_lab.demo.report.markup import Child, Markup, element
from mlops_lab.demo.report.timeline import Record, Span, Week, spans, weeks
from mlops_lab.demo.report.verdict import Claim, claims_of, shared_claims
from mlops_lab.demo.report.wording import NOTHING, count, day, decimal, found, outcome, plural, share


def versions(summary: Record) -> Markup:
    """Who trained it, on what, judged how, approved by whom, served when."""
    served = spans(summary)
    rows = [_version(version, summary, [span for span in served if span.version == version["version"]]) for version in summary["versions"]]
    return table("The model versions", ["Version", "Trained", "Judged", "Approved by", "Champion"], rows, "versions")


def _version(version: Record, summary: Record, served: list[Span]) -> list[Child]:
    state = badge(version["state"], {"serving": "good", "barred": "bad", "refused": "bad"}.get(version["state"], "plain"))
    forced = [one["by"] for one in summary["assignments"] if one["version"] == version["version"] and one["kind"] == "override"]
    verdict = {"promote": badge("passed", "good"), "keep": badge("refused", "bad")}.get(version["judgement"], badge("not judged", "plain"))
    why = version["because"] or ""
    if version["judgement"] == "keep":
        why = f"{plural(len(_reasons(why)), 'check')} failed, listed below."
    times = [element("div", f"{day(span.start, year=False)} to {day(span.end)}") for span in served] or [element("div", "never")]
    return [
        stack(element("div", element("b", f"Version {version['version']} "), state), small(version["origin"])),
        stack(
            f"{count(version['training_rows'])} rows until {day(version['trained_until'])}",
            small("by ", version["registered_by"]),
            _digest(version),
        ),
        stack(verdict, small(why)),
        stack(
            *[_approver(name) for name in version["approved_by"]] or ["nobody"],
            *[small(f"forced in by {name}, on record") for name in forced],
        ),
        stack(*times, small(plural(version["predictions"], "prediction"))),
    ]


def _approver(name: str) -> str:
    return f"the policy, {name.removeprefix('policy:')}" if name.startswith("policy:") else name


def _digest(version: Record) -> Markup:
    return element("code", f"data {version['data_sha256'][:12]}", class_="digest", title=version["data_sha256"])


def changes(summary: Record) -> Markup:
    """Each change of champion, by whom and why."""
    rows: list[list[Child]] = [
        [
            day(one["at"]),
            badge(one["kind"], {"override": "bad", "rollback": "warn"}.get(one["kind"], "good")),
            f"{_name(one['from_version'])} → {_name(one['version'])}",
            one["by"],
            one["why"],
        ]
        for one in summary["assignments"]
    ]
    return table("Each change of champion", ["Day", "Kind", "Version", "By", "Why"], rows, "changes")


def _name(version: int | None) -> str:
    return "none" if version is None else f"v{version}"


def refusals(summary: Record) -> Markup:
    """What was turned away."""
    rows: list[list[Child]] = []
    for one in summary["refused"]:
        reasons = _reasons(one["why"])
        why = element("ul", *[element("li", reason) for reason in reasons]) if len(reasons) > 1 else one["why"]
        if one.get("kind") == "challenger":
            why = stack(small("What was asked and did not hold:"), why)
        rows.append([day(one["at"]), badge(one.get("kind", "refused"), "bad"), element("b", one["what"]), why])
    return table("What was refused", ["Day", "Kind", "What", "Why"], rows, "refused")


def _reasons(why: str) -> list[str]:
    return re.split(r"; (?=\S)", why)


def decisions(summary: Record) -> Markup:
    """One row per week."""
    head = ["Week", "Decision", "Champion", "ROC AUC (never retrained)", "Unexplained loss", "Inputs moved", "Labels", "Why"]
    decided = weeks(summary)
    kinds = [f"{week.decision['outcome']}{' counts' if week.decision['counts'] else ''}" for week in decided]
    return table("One decision per week", head, [_decision(week) for week in decided], "decisions", kinds)


def _decision(week: Week) -> list[Child]:
    d = week.decision
    u = d["unexplained"]
    loss = NOTHING if not u else stack(decimal(u["mean"], 4), small(f"{decimal(u['low'], 4)} to {decimal(u['high'], 4)}"))
    inputs = f"{len(d['drifted'])} of {d['inputs']}" if d.get("inputs") else NOTHING
    return [
        stack(element("b", d["window"]), small(f"from {day(week.window.start, year=False)}")),
        badge(outcome(d["outcome"]), d["outcome"]),
        _name(d["champion"]),
        stack(decimal(week.served), small(f"({decimal(week.never)})")),
        loss,
        inputs,
        stack(count(d["labels"]), small(share(d["coverage"]))),
        d["because"],
    ]


def acts(summary: Record) -> list[Markup]:
    """What all acts rest on, once; then each act with its own claims."""
    shared = shared_claims(summary)
    parts = [_act("What every act rests on", None, shared)] if shared else []
    for step in summary["steps"]:
        own = [claim for claim in claims_of(step) if claim not in shared]
        parts.append(_act(f"{step['id']}. {step['title']}", step, own))
    return parts


def _act(title: str, step: Record | None, claims: list[Claim]) -> Markup:
    holds = all(claim.holds for claim in claims)
    tally = plural(len(claims), "claim") + (f", {decimal(step['seconds'], 1)} s" if step and step["seconds"] is not None else "")
    rows: list[list[Child]] = [
        [element("span", "holds" if claim.holds else "BROKEN", class_="yes" if claim.holds else "no"), claim.sentence, found(claim.found)]
        for claim in claims
    ]
    mark = badge("not proven" if not holds else "happened" if step else "holds", "good" if holds else "bad")
    head = element("header", element("h3", title), mark, element("span", tally, class_="tally"))
    return element("article", head, table(title, ["Verdict", "Claim", "Found"], rows, "claims"), class_="act" if holds else "act broken")


def table(caption: str, head: list[str], rows: list[list[Child]], class_: str, kinds: list[str] | None = None) -> Markup:
    """A table that scrolls in its own frame where the window is narrow."""
    header = element("thead", element("tr", *[element("th", name, scope="col") for name in head]))
    body = [
        element("tr", *[element("td", cell) for cell in row], class_=kind or None)
        for row, kind in zip(rows, kinds or [""] * len(rows), strict=True)
    ]
    whole = element("table", element("caption", caption), header, element("tbody", *body), class_=class_)
    return element("div", whole, class_="frame", tabindex=0, role="region", aria_label=caption)


def badge(words: str, kind: str) -> Markup:
    return element("span", words, class_=f"badge {kind}")


def small(*words: Child) -> Markup:
    return element("div", *words, class_="small")


def stack(*children: Child) -> Markup:
    """Things above one another in a cell."""
    return element("div", *[child if isinstance(child, Markup) else element("div", child) for child in children], class_="stack")
