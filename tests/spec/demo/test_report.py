"""The demo's report: one file that says everything the summary says, to anybody, anywhere, whatever the texts hold."""

import copy
import json
import re
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from mlops_lab.demo import report
from mlops_lab.demo.report.page import STYLE
from mlops_lab.demo.report.timeline import spans
from summary_builders import a_decision, a_step, a_summary, a_version, an_assignment

HOSTILE = "<script>alert(1)</script>\"'&</title></style><img src=x onerror=alert(2)>"


class Reader(HTMLParser):
    """What a browser makes of the page: its words, its elements, its attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words, self.tags, self.attributes, self.open = "", set[str](), list[tuple[str, str]](), list[str]()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in {"meta", "link", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words += data + " "


def read(home: Path, summary: dict[str, Any]) -> Reader:
    reader = Reader(report.write(home, summary).read_text(encoding="utf-8"))
    assert reader.open == [], "every element is closed"
    return reader


def test_it_tells_every_decision_version_change_and_refusal(tmp_path: Path) -> None:
    summary = a_summary()

    words = read(tmp_path, summary).words

    for decision in summary["decisions"]:
        assert decision["window"] in words
        assert decision["because"] in words
    for version in summary["versions"]:
        assert f"Version {version['version']}" in words
        assert f"{version['training_rows']:,} rows until 18 Mar 2013" in words
        assert version["data_sha256"][:12] in words
    for one in summary["assignments"]:
        assert one["why"] in words
    for one in summary["refused"]:
        assert one["what"] in words
        assert all(reason in words for reason in one["why"].split("; "))


def test_it_leads_with_the_result_and_the_key_figures(tmp_path: Path) -> None:
    words = read(tmp_path, a_summary()).words

    assert "The loop closed: all 3 claims hold" in words
    assert "skill was lost 1 time. 1 retrained model earned the traffic, 1 challenger was refused, 1 champion was rolled back." in words
    for figure in ("6,000", "5,400", "90.0\N{NO-BREAK SPACE}%", "of 5,000 sent", "2 promoted, 1 refused", "+0.017", "27 s"):
        assert figure in words


def test_every_act_is_told_with_its_claims_and_what_they_share_only_once(tmp_path: Path) -> None:
    words = read(tmp_path, a_summary()).words

    assert words.count("the audit trail verifies") == 1
    for number in (1, 2):
        assert f"{number}. Title of act {number}" in words
        assert f"act {number} happened" in words
        assert f"{number}, found" in words
    for command in ("lab demo --verify", "lab audit verify", "lab history"):
        assert command in words


def test_a_broken_claim_comes_before_everything_else(tmp_path: Path) -> None:
    lost = "a better model took the traffic"
    step = a_step(2, passed=False, evidence={"the audit trail verifies": "no break", lost: []}, broken=[f"{lost} (found [])"])

    words = read(tmp_path, a_summary(passed=False, steps=[a_step(1), step])).words

    assert "Not proven: 1 of 3 claims broken" in words
    assert "The loop closed" not in words
    assert words.index(lost) < words.index("Predictions")
    assert "BROKEN" in words
    assert words.count("not proven") == 1, "only the act that makes the claim"


def test_a_claim_that_all_acts_share_breaks_once(tmp_path: Path) -> None:
    shared = {"the audit trail verifies": "entry 7: changed"}
    steps = [a_step(n, passed=False, evidence=shared, broken=["the audit trail verifies (found entry 7: changed)"]) for n in (1, 2)]

    words = read(tmp_path, a_summary(passed=False, steps=steps)).words

    assert "Not proven: 1 of 1 claim broken" in words
    assert "Every act:  the audit trail verifies" in words


def test_a_summary_that_did_not_pass_is_never_called_a_success(tmp_path: Path) -> None:
    assert "The loop closed" not in read(tmp_path, a_summary(passed=False)).words


def poisoned(value: Any) -> Any:
    """The same summary, with a hostile text wherever the platform did not choose the words."""
    free = {
        "why",
        "because",
        "by",
        "what",
        "title",
        "registered_by",
        "approved_by",
        "origin",
        "state",
        "evidence",
        "broken",
        "outcome",
        "kind",
        "digests",
    }
    if not isinstance(value, dict):
        return [poisoned(one) for one in value] if isinstance(value, list) else value
    return {key: everywhere(one) if key in free else poisoned(one) for key, one in value.items()}


def everywhere(value: Any) -> Any:
    if isinstance(value, dict):
        return {f"{key} {HOSTILE}": everywhere(one) for key, one in value.items()}
    return [everywhere(one) for one in value] if isinstance(value, list) else f"{value} {HOSTILE}" if isinstance(value, str) else value


def test_a_hostile_text_is_shown_and_never_obeyed(tmp_path: Path) -> None:
    harmless = read(tmp_path, a_summary(passed=False))

    hostile = read(tmp_path, poisoned(a_summary(passed=False)))

    assert hostile.tags == harmless.tags
    assert not {"script", "img", "iframe", "object", "link", "a"} & hostile.tags
    assert not [name for name, _ in hostile.attributes if name.startswith("on")]
    assert hostile.words.count("<script>alert(1)</script>") > 50


def test_it_needs_no_network_and_no_script(tmp_path: Path) -> None:
    path = report.write(tmp_path, a_summary())
    html, reader = path.read_text(encoding="utf-8"), read(tmp_path, a_summary())

    assert "://" not in html
    assert "@import" not in html
    assert set(re.findall(r"url\(([^)]*)\)", html)) <= {"#hatch"}
    assert not {"src", "href", "srcset", "action"} & {name for name, _ in reader.attributes}
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in reader.attributes


@pytest.mark.parametrize(
    "changes",
    [
        {"auc_served_by_week": {"2013-W14": None}, "auc_never_retrained_by_week": {}},
        {"assignments": [], "refused": []},
        {"versions": [], "assignments": [], "decisions": [], "refused": [], "steps": [], "attempts": {}, "digests": {}},
        {"mean_weekly_auc_gain": None, "decay_to_better_model_s": None, "label_coverage": None},
        {
            "decisions": [
                a_decision(14, "not_enough_data", auc=None, brier=None, unexplained=None, champion=None, drifted=[], inputs=0, counts=False)
            ]
        },
        {"decisions": [a_decision(14, "data_incident"), a_decision(15, "ok", drifted=[])]},
        {"versions": [a_version(1, judgement=None, because=None, trained_until=None, approved_by=[], predictions=0, first_served=None)]},
        {"assignments": [an_assignment(1, 1, "2013-04-01T00:00:00Z") | {"version": None}]},
        {"passed": False, "steps": [a_step(1, seconds=None, evidence={}, broken=["everything"])]},
    ],
    ids=["no auc", "no promotion", "nothing", "no gain", "no data", "incident", "not judged", "role taken away", "no evidence"],
)
def test_what_is_missing_is_a_dash_and_no_failure(tmp_path: Path, changes: dict[str, Any]) -> None:
    words = read(tmp_path, a_summary(**changes)).words

    assert not re.search(r"\b(None|nan|null)\b", words)


def test_the_charts_have_a_name_and_a_description_for_who_cannot_see_them(tmp_path: Path) -> None:
    html = report.write(tmp_path, a_summary()).read_text(encoding="utf-8")

    drawings = re.findall(r"<svg.*?</svg>", html, re.DOTALL)
    assert len(drawings) == 2
    for drawing in drawings:
        (labels,) = re.findall(r'aria-labelledby="([^"]+)"', drawing)
        assert all(f'id="{name}"' in drawing for name in labels.split())
    for label in ("version 2 promoted", "version 3 refused", "version 3 forced in", "rolled back to version 2"):
        assert label in drawings[0]


def test_a_version_that_came_back_is_champion_twice() -> None:
    served = [(span.version, span.kind, f"{span.end:%m-%d}") for span in spans(a_summary())]

    assert served == [(1, "promotion", "04-22"), (2, "promotion", "04-29"), (3, "override", "05-06"), (2, "rollback", "05-13")]


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_every_text_stands_out_from_what_lies_behind_it(theme: int) -> None:
    """WCAG 2.2 AA asks for a contrast of 4.5 for text, and of 3 for the marks of a chart."""
    colours = [
        dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6,8});", block))
        for block in re.findall(r":root \{(.*?)\}", STYLE.read_text(), re.DOTALL)[:2]
    ]
    assert colours[0].keys() == colours[1].keys()
    of = colours[theme]
    texts = [
        ("ink", "page"),
        ("muted", "page"),
        ("ink", "card"),
        ("muted", "card"),
        ("muted", "faint"),
        ("muted", "even"),
        ("ink", "warn-tint"),
    ]
    texts += [("ink", "bad-tint"), ("muted", "bad-tint"), ("muted", "warn-tint"), ("good", "card"), ("bad", "card"), ("bad", "page")]
    texts += [(kind, f"{kind}-tint") for kind in ("good", "bad", "warn", "incident")]
    marks = [("served", "even"), ("never", "even"), ("counts", "card")]
    for asked, pairs in ((4.5, texts), (3.0, marks)):
        for front, back in pairs:
            dark, light = sorted((luminance(of[front]), luminance(of[back])))
            assert (light + 0.05) / (dark + 0.05) >= asked, f"{front} on {back}"


def test_it_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = report.write(tmp_path, a_summary())
    before = path.read_bytes()
    damaged = a_summary()
    del damaged["decisions"]

    with pytest.raises(KeyError):
        report.write(tmp_path, damaged)

    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_year_is_small_and_quickly_written_and_the_summary_is_left_alone(tmp_path: Path) -> None:
    summary = a_summary(decisions=[a_decision(week, because="A long sentence. " * 20) for week in range(1, 53)])
    summary["versions"] = [a_version(number) for number in range(1, 40)]
    before = copy.deepcopy(summary)
    began = time.perf_counter()

    path = report.write(tmp_path, summary)

    assert time.perf_counter() - began < 2
    assert path.stat().st_size < 1_000_000
    assert json.dumps(summary) == json.dumps(before)
