"""A gate lets data through only on evidence. The same promises for the framework and for its twin."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops_lab.errors import SnapshotRefused
from mlops_lab.gates import Expectation, Gate, PandasGate, Verdict, html, require

DIGEST = "d" * 64
Build = Callable[..., pd.DataFrame]


@pytest.fixture(scope="module")
def great_expectations() -> Gate:
    from mlops_lab.gates.on_great_expectations import GreatExpectationsGate

    return GreatExpectationsGate()  # one for the module: its context is made once and must bear being shared


@pytest.fixture(params=["pandas", "great_expectations"])
def gate(request: pytest.FixtureRequest) -> Gate:
    return PandasGate() if request.param == "pandas" else request.getfixturevalue("great_expectations")


def a_table(**columns: Any) -> pd.DataFrame:
    """Four orders; a test says which column is different."""
    usual: dict[str, Any] = {
        "order": ["a", "b", "c", "d"],
        "city": ["Ulm", "Ulm", "Bonn", "Bonn"],
        "price": [1.0, 2.0, 3.0, 4.0],
        "pieces": [1, 2, 3, 4],
        "paid": [True, False, True, True],
        "ordered": pd.to_datetime(["2013-01-01", "2013-01-02", "2013-01-03", "2013-01-04"], utc=True).astype("datetime64[us, UTC]"),
        "sent": pd.to_datetime(["2013-01-02", None, "2013-01-04", "2013-01-04"], utc=True).astype("datetime64[us, UTC]"),
    }
    return pd.DataFrame({name: values for name, values in (usual | columns).items() if values is not None})


def expect(rule: Any, mostly: float = 1.0, blocking: bool = True, table: str = "orders", **arguments: Any) -> Expectation:
    return Expectation(f"{rule} {arguments}", table, rule, arguments, mostly, blocking)


def check(gate: Gate, table: pd.DataFrame, *expectations: Expectation) -> Verdict:
    return gate.check("2013-01", DIGEST, {"orders": table}, expectations)


KEPT = (
    expect("columns_exactly", columns=["sent", "ordered", "paid", "pieces", "price", "city", "order"]),
    expect("type", column="order", is_type="text"),
    expect("type", column="price", is_type="number"),
    expect("type", column="pieces", is_type="integer"),
    expect("type", column="paid", is_type="flag"),
    expect("type", column="ordered", is_type="moment"),
    expect("type", column="sent", is_type="moment"),
    expect("not_null", column="price"),
    expect("not_null", column="sent", mostly=0.75),
    expect("unique", columns=["order"]),
    expect("unique", columns=["city", "pieces"]),
    expect("between", column="price", low=1, high=4),
    expect("between", column="price", low=None, high=4),
    expect("between", column="ordered", low=datetime(2013, 1, 1, tzinfo=UTC), high=datetime(2013, 1, 4, tzinfo=UTC)),
    expect("in_set", column="city", values=["Ulm", "Bonn", "Köln"]),
    expect("mean_between", column="price", low=2.5, high=2.5),
    expect("row_count", low=4, high=4),
    expect("row_count", high=4),
    expect("pair_greater", a="sent", b="ordered"),
)
BROKEN: list[tuple[Expectation, dict[str, Any], int, int, str, tuple[str, ...]]] = [
    # expectation, what is different, rows checked, rows that break it, what is observed, examples
    (expect("columns_exactly", columns=["order", "weight"]), {}, 4, 0, "lacks weight; unexpected city", ("weight", "city")),
    (expect("type", column="price", is_type="text"), {}, 4, 0, "number (float64)", ()),
    (expect("type", column="price", is_type="number"), {"price": ["1", "2", "x", None]}, 3, 3, "3 of 3 rows", ("1", "2", "x")),
    (expect("type", column="ordered", is_type="moment"), {"ordered": ["soon", "2013", "x", "y"]}, 4, 4, "4 of 4 rows", ("soon", "2013")),
    (expect("not_null", column="price"), {"price": [1.0, None, None, 2.0]}, 4, 2, "2 of 4 rows break it (50.00 %)", ()),
    (expect("not_null", column="city", mostly=0.8), {"city": ["Ulm", None, "Bonn", "Bonn"]}, 4, 1, "1 of 4 rows", ()),
    (expect("unique", columns=["order"]), {"order": ["a", "a", "c", None]}, 3, 2, "2 of 3 rows", ("a", "a")),
    (expect("unique", columns=["city", "paid"]), {}, 4, 2, "2 of 4 rows", ("Bonn, True", "Bonn, True")),
    (expect("between", column="price", low=2, high=3), {}, 4, 2, "2 of 4 rows", ("1", "4")),
    (expect("between", column="price", low=0, high=3, mostly=0.75), {"price": [1.0, 9.0, None, 8.5]}, 3, 2, "2 of 3 rows", ("9", "8.5")),
    (expect("in_set", column="city", values=["Ulm"]), {"city": ["Ulm", "Berlin", None, "Rom"]}, 3, 2, "2 of 3 rows", ("Berlin", "Rom")),
    (expect("mean_between", column="price", low=3, high=9), {}, 4, 0, "mean 2.5", ()),
    (expect("row_count", low=5, high=9), {}, 4, 0, "4 rows", ()),
    (
        expect("pair_greater", a="ordered", b="sent"),
        {},
        3,
        2,
        "2 of 3 rows",
        ("2013-01-01T00:00:00Z, 2013-01-02T00:00:00Z", "2013-01-03T00:00:00Z, 2013-01-04T00:00:00Z"),
    ),
]
UNCHECKABLE: list[tuple[Expectation, dict[str, Any], str]] = [
    (expect("not_null", column="weight"), {}, "no column 'weight'"),
    (expect("between", column="price", low=0, high=9, table="prices"), {}, "no table 'prices'"),
    (expect("between", column="price", low=0, high=9), {"price": ["1", "2", "3", "4"]}, "holds text"),
    (expect("between", column="ordered", low=0, high=9), {}, ""),
    (expect("mean_between", column="price", low=0, high=9), {"price": [np.nan] * 4}, "holds 0 values"),
    (expect("mean_between", column="city", low=0, high=9), {}, "city"),
    (expect("pair_greater", a="price", b="city"), {}, ""),
    (expect("shiny", column="price"), {}, "there is no rule 'shiny'"),
    (expect("type", column="price", is_type="decimal"), {}, "there is no type 'decimal'"),
    (expect("between", column="price"), {}, "takes column, low, high"),
    (expect("not_null", column="price", mosty=0.9), {}, "takes column"),
    (expect("not_null", column="price", mostly=95), {}, "mostly is 95"),
]


def test_data_that_keeps_every_rule_is_accepted_with_one_finding_per_rule_in_order(gate: Gate) -> None:
    verdict = check(gate, a_table(), *KEPT)

    assert [f.expectation for f in verdict.findings if not f.passed] == []
    assert [f.expectation for f in verdict.findings] == [e.name for e in KEPT]
    assert verdict.accepted
    assert (verdict.gate, verdict.subject, verdict.digest) == ("batch", "2013-01", DIGEST)
    require(verdict)


@pytest.mark.parametrize(("broken", "different", "rows", "failed", "observed", "examples"), BROKEN, ids=lambda v: getattr(v, "name", ""))
def test_a_broken_rule_says_how_many_rows_what_was_found_and_examples(
    gate: Gate, broken: Expectation, different: dict[str, Any], rows: int, failed: int, observed: str, examples: tuple[str, ...]
) -> None:
    verdict = check(gate, a_table(**different), expect("row_count", low=1), broken)

    finding = verdict.findings[1]
    assert (finding.passed, finding.rows, finding.failed_rows) == (False, rows, failed)
    assert finding.observed.startswith(observed)
    assert finding.examples[: len(examples)] == examples
    assert not verdict.accepted
    with pytest.raises(SnapshotRefused, match="1 of 2 expectations failed"):
        require(verdict)


@pytest.mark.parametrize(("strange", "different", "why"), UNCHECKABLE, ids=lambda v: getattr(v, "name", ""))
def test_what_cannot_be_checked_refuses_even_where_a_failure_would_only_warn(
    gate: Gate, strange: Expectation, different: dict[str, Any], why: str
) -> None:
    warning = Expectation(strange.name, strange.table, strange.rule, strange.arguments, strange.mostly, blocking=False)

    verdict = check(gate, a_table(**different), expect("row_count", low=1), warning)

    assert verdict.findings[0].passed
    assert verdict.findings[1].blocking
    assert verdict.findings[1].observed.startswith("could not be checked")
    assert why in verdict.findings[1].observed
    assert not verdict.accepted


def test_a_rule_that_does_not_block_only_warns(gate: Gate) -> None:
    verdict = check(gate, a_table(), expect("row_count", low=1), expect("between", column="price", low=2, high=9, blocking=False))

    assert verdict.accepted
    assert [f.failed_rows for f in verdict.warnings] == [1]


def test_no_rule_and_no_row_refuse(gate: Gate) -> None:
    """Nothing checked is no evidence: an empty list of rules, an empty table."""
    assert not check(gate, a_table()).accepted
    assert not check(gate, a_table().head(0), expect("between", column="price", low=0, high=9)).accepted
    assert not check(gate, a_table().head(0), expect("not_null", column="price", blocking=False)).accepted
    with pytest.raises(SnapshotRefused, match="nothing was checked"):
        require(check(gate, a_table()))


def test_bounds_are_inclusive_and_mostly_counts_values_without_gaps(gate: Gate) -> None:
    table = a_table(price=[0.0, 10.0, 10.1, None])

    verdict = check(gate, table, *(expect("between", column="price", low=0, high=10, mostly=share) for share in (0.66, 0.67)))

    assert [f.passed for f in verdict.findings] == [True, False]


def test_two_equal_rules_are_two_findings(gate: Gate) -> None:
    same = expect("not_null", column="price")
    assert len(check(gate, a_table(), same, same).findings) == 2


def test_tables_are_judged_together_and_left_as_they_were(gate: Gate) -> None:
    orders, cities = a_table(), pd.DataFrame({"city": ["Ulm", "Bonn", "Ulm"]})
    rules = (expect("unique", columns=["order"]), expect("unique", columns=["city"], table="cities"), expect("row_count", low=4))
    before = orders.copy(deep=True)

    verdict = gate.check("2013-01", DIGEST, {"orders": orders, "cities": cities}, rules, gate="window")

    assert [(f.table, f.passed) for f in verdict.findings] == [("orders", True), ("cities", False), ("orders", True)]
    assert verdict.gate == "window"
    pd.testing.assert_frame_equal(orders, before)


def test_a_verdict_is_data_that_survives_a_file(gate: Gate) -> None:
    verdict = check(gate, a_table(price=[1.0, np.nan, np.inf, 2.0]), expect("between", column="price", low=0, high=1), *KEPT)

    text = json.dumps(verdict.to_dict(), allow_nan=False)

    assert Verdict.from_dict(json.loads(text)) == verdict
    assert json.loads(text)["accepted"] is False


def test_an_error_inside_the_framework_refuses(great_expectations: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Any, frame: pd.DataFrame) -> Any:
        raise RuntimeError("metric store is gone")

    monkeypatch.setattr(type(great_expectations), "_batch", broken)

    verdict = check(
        great_expectations, a_table(), expect("row_count", low=1, blocking=False), expect("row_count", low=1, table="elsewhere")
    )

    assert not verdict.accepted
    assert verdict.findings[0].blocking
    assert "RuntimeError: metric store is gone" in verdict.findings[0].observed


def test_a_result_that_contradicts_itself_refuses(great_expectations: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """The figures say that all is well and the framework says failed, or the reverse: neither is believed."""
    batch = type(great_expectations)._batch  # type: ignore[attr-defined]

    class Lying:
        def __init__(self, inner: Any) -> None:
            self._inner = inner

        def validate(self, *arguments: Any, **named: Any) -> Any:
            result = self._inner.validate(*arguments, **named)
            for one in result.results:
                one.success = not one.success
            return result

    monkeypatch.setattr(type(great_expectations), "_batch", lambda self, frame: Lying(batch(self, frame)))

    verdict = check(great_expectations, a_table(), expect("not_null", column="price"), expect("row_count", low=9))

    assert [f.passed for f in verdict.findings] == [False, False]
    assert all("its figures say the opposite" in f.observed for f in verdict.findings)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    prices=st.lists(st.one_of(st.none(), st.floats(-5, 5), st.sampled_from([0.0, 1.0])), min_size=1, max_size=12),
    cities=st.lists(st.sampled_from(["Ulm", "Bonn", None, "NA", ""]), min_size=12, max_size=12),
    mostly=st.sampled_from([0.5, 0.9, 1.0]),
)
def test_twin_and_framework_find_the_same(
    great_expectations: Gate, prices: list[float | None], cities: list[str | None], mostly: float
) -> None:
    table = pd.DataFrame({"price": np.array(prices, dtype=float), "city": pd.Series(cities[: len(prices)], dtype=object)})
    rules = (
        expect("between", column="price", low=0, high=3, mostly=mostly),
        expect("not_null", column="price", mostly=mostly),
        expect("not_null", column="city", mostly=mostly),
        expect("unique", columns=["city"], mostly=mostly),
        expect("unique", columns=["city", "price"], mostly=mostly),
        expect("in_set", column="city", values=["Ulm", "Bonn"], mostly=mostly),
        expect("in_set", column="price", values=[0.0, 1.0], mostly=mostly),
        expect("type", column="city", is_type="text"),
        expect("mean_between", column="price", low=-1, high=1),
        expect("columns_exactly", columns=["price"]),
    )

    assert check(PandasGate(), table, *rules).findings == check(great_expectations, table, *rules).findings


def test_the_page_shows_what_refuses_first_and_no_value_becomes_part_of_it(gate: Gate) -> None:
    table = a_table(city=["Ulm", "<script>alert(1)</script>", "Bonn", "Bonn"])
    verdict = check(gate, table, expect("row_count", low=1), expect("in_set", column="city", values=["Ulm", "Bonn"]))

    page = html(verdict)

    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert page.index(">refuses<") < page.index(">kept<")
    assert "http" not in page
    assert "Nothing was checked" in html(check(gate, table))
