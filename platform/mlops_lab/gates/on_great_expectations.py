"""The gate on Great Expectations: our expectations go out as theirs, their results come back as our findings."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Any

import great_expectations as gx
import great_expectations.expectations
import pandas as pd

from mlops_lab.gates.expectation import Expectation
from mlops_lab.gates.finding import Uncheckable, of_rows, unchecked
from mlops_lab.gates.in_memory import of_columns, of_mean, of_row_count, of_type
from mlops_lab.gates.rule import table_of
from mlops_lab.gates.verdict import Finding, Verdict

gxe: Any = gx.expectations  # its names are re-exported in a way that type checkers do not follow

_TYPES: dict[str, list[str]] = {
    "text": ["str", "string"],
    "integer": ["int", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "Int64"],
    "number": ["float", "float32", "float64", "Float64"],
    "flag": ["bool", "boolean"],
    "moment": ["Timestamp"],
}


class ExpectColumnValuesToBeMoments(gxe.ExpectColumnValuesToBeInTypeList):  # type: ignore[misc]
    """Their type list has no name for a moment with a time zone, so this one is compared by what it is."""

    def _validate_pandas(self, actual_column_type: Any, expected_types_list: list[str]) -> dict[str, Any]:
        passed = pd.api.types.is_datetime64_any_dtype(actual_column_type)
        return {"success": passed, "result": {"observed_value": str(actual_column_type)}}


class GreatExpectationsGate:
    """Keeps `Gate` with one ephemeral context, made at the first check and used for every later one. Safe for several threads.

    Tables go in as they are and nothing is stored by the framework; its result is in the verdict, with at most twenty offending
    values per expectation.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._whole_table: Any = None

    def check(
        self, subject: str, digest: str, tables: Mapping[str, pd.DataFrame], expectations: Sequence[Expectation], *, gate: str = "batch"
    ) -> Verdict:
        findings: dict[int, Finding] = {}
        wanted: dict[str, list[int]] = {}
        for place, expectation in enumerate(expectations):
            try:
                table_of(expectation, tables)
                wanted.setdefault(expectation.table, []).append(place)
            except Uncheckable as error:
                findings[place] = unchecked(expectation, str(error))
        results: dict[str, Any] = {}
        for table, places in wanted.items():
            chosen = {place: expectations[place] for place in places}
            try:
                found, results[table] = self._check_table(tables[table], chosen)
            except Exception as error:  # whatever goes wrong in the framework refuses; the reason is kept as the finding
                found = {place: unchecked(expectation, f"{type(error).__name__}: {error}") for place, expectation in chosen.items()}
            findings |= found
        record = {"engine": "great_expectations", "version": gx.__version__, "tables": results}
        return Verdict(gate, subject, digest, tuple(findings[place] for place in range(len(expectations))), record)

    def _check_table(self, frame: pd.DataFrame, chosen: Mapping[int, Expectation]) -> tuple[dict[int, Finding], Any]:
        suite = gx.ExpectationSuite(name="suite", expectations=[_THEIRS[e.rule](e, {"place": place}) for place, e in chosen.items()])
        with self._lock:
            result = self._batch(frame).validate(suite, result_format="SUMMARY")
        found = {place: unchecked(expectation, "the framework gave no result", len(frame)) for place, expectation in chosen.items()}
        for one in result.results:
            place = one.expectation_config.meta["place"]
            found[place] = _finding(chosen[place], frame, one)
        return found, _plain(result.to_json_dict())

    def _batch(self, frame: pd.DataFrame) -> Any:
        if self._whole_table is None:
            context = gx.get_context(mode="ephemeral")
            settings: Any = context.variables
            settings.progress_bars = {"globally": False, "metric_calculations": False}
            asset = context.data_sources.add_pandas("tables").add_dataframe_asset("table")
            self._whole_table = asset.add_batch_definition_whole_dataframe("whole")
        return self._whole_table.get_batch(batch_parameters={"dataframe": frame})


def _finding(expectation: Expectation, frame: pd.DataFrame, one: Any) -> Finding:
    """Read one of their results. A result that is not of the shape we know raises, which refuses."""
    trouble = _exception(one.exception_info)
    if trouble is not None:
        return unchecked(expectation, trouble, len(frame))
    result, arguments = one.result, expectation.arguments
    match expectation.rule:
        case "columns_exactly":
            finding = of_columns(expectation, len(frame), [str(name) for name in frame.columns], arguments["columns"])
        case "row_count":
            finding = of_row_count(expectation, int(result["observed_value"]), **arguments)
        case "mean_between":
            finding = of_mean(expectation, len(frame), float(result["observed_value"]), arguments.get("low"), arguments.get("high"))
        case "type" if "element_count" not in result:
            finding = of_type(expectation, frame[arguments["column"]])
        case rule:
            failed = int(result["unexpected_count"])
            missing = 0 if rule == "not_null" else int(result["missing_count"])
            shown = [] if rule == "not_null" else result["partial_unexpected_list"]
            finding = of_rows(expectation, len(frame), int(result["element_count"]) - missing, failed, shown)
    if finding.passed != bool(one.success):
        # Two readings of one result: the framework's word and ours. Rather refuse than choose.
        return unchecked(
            expectation, f"the framework says {'passed' if one.success else 'failed'}, its figures say the opposite", len(frame)
        )
    return finding


def _exception(info: Any) -> str | None:
    """The first error in their `exception_info`, which is one record or one per metric."""
    for record in (info, *(value for value in info.values() if isinstance(value, dict))):
        if record.get("raised_exception"):
            return str(record.get("exception_message") or "an error without words").strip().split("\n", 1)[0]
    return None


def _plain(value: Any) -> Any:
    """JSON without NaN and without types that only Python knows."""
    if isinstance(value, dict):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, str | bool | int):
        return value
    return json.loads(json.dumps(value.item() if hasattr(value, "item") else value, default=str))


def _between(e: Expectation, meta: dict[str, Any]) -> Any:
    low, high = e.arguments.get("low"), e.arguments.get("high")
    return gxe.ExpectColumnValuesToBeBetween(column=e.arguments["column"], min_value=low, max_value=high, mostly=e.mostly, meta=meta)


def _type(e: Expectation, meta: dict[str, Any]) -> Any:
    theirs = ExpectColumnValuesToBeMoments if e.arguments["is_type"] == "moment" else gxe.ExpectColumnValuesToBeInTypeList
    return theirs(column=e.arguments["column"], type_list=_TYPES[e.arguments["is_type"]], mostly=e.mostly, meta=meta)


def _unique(e: Expectation, meta: dict[str, Any]) -> Any:
    columns = list(e.arguments["columns"])
    if len(columns) == 1:
        return gxe.ExpectColumnValuesToBeUnique(column=columns[0], mostly=e.mostly, meta=meta)
    return gxe.ExpectCompoundColumnsToBeUnique(column_list=columns, mostly=e.mostly, meta=meta)


_THEIRS: dict[str, Callable[[Expectation, dict[str, Any]], Any]] = {
    "columns_exactly": lambda e, meta: gxe.ExpectTableColumnsToMatchSet(
        column_set=list(e.arguments["columns"]), exact_match=True, meta=meta
    ),
    "type": _type,
    "not_null": lambda e, meta: gxe.ExpectColumnValuesToNotBeNull(column=e.arguments["column"], mostly=e.mostly, meta=meta),
    "unique": _unique,
    "between": _between,
    "in_set": lambda e, meta: gxe.ExpectColumnValuesToBeInSet(
        column=e.arguments["column"], value_set=list(e.arguments["values"]), mostly=e.mostly, meta=meta
    ),
    "mean_between": lambda e, meta: gxe.ExpectColumnMeanToBeBetween(
        column=e.arguments["column"], min_value=e.arguments.get("low"), max_value=e.arguments.get("high"), meta=meta
    ),
    "row_count": lambda e, meta: gxe.ExpectTableRowCountToBeBetween(
        min_value=e.arguments.get("low"), max_value=e.arguments.get("high"), meta=meta
    ),
    "pair_greater": lambda e, meta: gxe.ExpectColumnPairValuesAToBeGreaterThanB(
        column_A=e.arguments["a"],
        column_B=e.arguments["b"],
        or_equal=True,
        ignore_row_if="either_value_is_missing",
        mostly=e.mostly,
        meta=meta,
    ),
}
