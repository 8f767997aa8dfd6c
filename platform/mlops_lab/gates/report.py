"""A verdict as one small page that needs no network, no script and no framework: it opens from a disk, years later."""

from html import escape

from mlops_lab.gates.verdict import Finding, Verdict

_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:68rem;padding:0 1rem;color:#1b1f24;background:#fff}
h1{font-size:1.35rem}table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.35rem .6rem;border-bottom:1px solid #d7dce1;vertical-align:top}
.failed{color:#a40e26;font-weight:600}.warning{color:#7a4d00;font-weight:600}.kept{color:#1a6b32}code{background:#f1f3f5;padding:0 .25rem}
td.number{text-align:right;font-variant-numeric:tabular-nums}
"""
_ORDER = ("refuses", "warns", "kept")


def html(verdict: Verdict) -> str:
    """The verdict as a complete HTML page: refusing findings first, then warnings, then what was kept.

    Everything that came out of the data is escaped, so that a value cannot become part of the page.
    """
    refused, warned = len(verdict.reasons), len(verdict.warnings)
    title = f"Gate '{verdict.gate}' {'accepted' if verdict.accepted else 'refused'} {verdict.subject}"
    summary = f"{len(verdict.findings)} expectations checked, {refused} refuse, {warned} warn."
    if not verdict.findings:
        summary = "Nothing was checked, which refuses."
    ranked = sorted(verdict.findings, key=lambda finding: _ORDER.index(_effect(finding)))
    engine = " ".join(str(verdict.result[key]) for key in ("engine", "version") if key in verdict.result)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style></head><body>\n'
        f"<h1>{escape(title)}</h1>\n<p>{summary} "
        f"Content <code>{escape(verdict.digest[:12])}</code>, checked with {escape(engine) or 'an unnamed engine'}.</p>\n"
        "<table><thead><tr><th>Effect</th><th>Table</th><th>Expectation</th><th>Rows</th><th>Broken</th><th>Found</th><th>Examples</th></tr>"
        "</thead><tbody>\n"
        f"{''.join(map(_row, ranked))}</tbody></table>\n</body></html>\n"
    )


def _effect(finding: Finding) -> str:
    if finding.passed:
        return "kept"
    return "refuses" if finding.blocking else "warns"


def _row(finding: Finding) -> str:
    effect = _effect(finding)
    look = {"kept": "kept", "refuses": "failed", "warns": "warning"}[effect]
    examples = " · ".join(f"<code>{escape(example)}</code>" for example in finding.examples)
    return (
        f'<tr><td class="{look}">{effect}</td><td>{escape(finding.table)}</td><td>{escape(finding.expectation)}</td>'
        f'<td class="number">{finding.rows}</td><td class="number">{finding.failed_rows}</td>'
        f"<td>{escape(finding.observed)}</td><td>{examples}</td></tr>\n"
    )
