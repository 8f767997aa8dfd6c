"""What happens in the faults of events: real days of flights, told in order; `disorder.py` does the rest."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from mlops_lab.chaos.disorder import Due
from mlops_lab.events import FEEDBACK, OBSERVATIONS, REFERENCES

if TYPE_CHECKING:  # pandas comes with it
    from mlops_lab.flights.source import Year

SINCE = datetime(2013, 4, 1, tzinfo=UTC)
LISTED = 300


def happenings(
    year: "Year", days: int, seed: int, *, since: datetime = SINCE, reports: bool = False, listed: int = LISTED
) -> Iterator[Due]:
    """A part of the register of aircraft, then days of facts, in order.

    Args:
        year: Of flights.
        days: How many.
        seed: Of the lateness of reports.
        since: Event time of the first.
        reports: With what is reported of outcomes, about 900 a day.
        listed: How many aircraft.
    """
    from mlops_lab.flights import messages
    from mlops_lab.flights.request import MODEL
    from mlops_lab.flights.timeline import Timeline, report_item
    from mlops_lab.pipelines.feedback import reported

    for aircraft in messages.aircraft(year.aircraft.head(listed), since):
        yield Due(since, REFERENCES, aircraft)
    for step in Timeline(year, seed).steps(since, since + timedelta(days=days), questions=reports):
        for fact in step.facts:
            yield Due(step.at, OBSERVATIONS, fact)
        for report in step.reports:
            yield Due(step.at, FEEDBACK, reported(MODEL, report_item(report, f"prediction-{report.entity}")))
