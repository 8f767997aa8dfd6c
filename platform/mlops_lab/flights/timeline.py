"""What happens when: the year as the sequence that production sees it in. Observations, questions, and outcomes that arrive late."""

from collections import namedtuple
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import orjson
import pandas as pd
from numpy.typing import NDArray

from mlops_lab.clock import iso
from mlops_lab.events import Message
from mlops_lab.flights import messages
from mlops_lab.flights.source import Year
from mlops_lab.flights.transform import ASKED_BEFORE_DEPARTURE, WEATHER

DEPARTURE = ("flight_id", "carrier", "origin", "tail_number", "departed_at", "departure_delay_min")
ARRIVAL = ("flight_id", "destination", "tail_number", "arrived_at", "arrival_delay_min")
SCHEDULE = ("flight_id", "scheduled_departure", "carrier", "tail_number", "origin", "destination", "distance_miles")
REPORT = ("event_id", "entity", "revision", "delay_min", "known_at", "due")

PLANNED_AHEAD = timedelta(days=1)
"""A schedule is published so long before departure."""

REPORT_EVERY = timedelta(minutes=15)
"""Outcomes are reported in groups, as an airline's feed would."""

LATE_SHARE, LATE_UP_TO = 0.02, timedelta(days=3)
TWICE_SHARE = 0.01
REVISED_SHARE, REVISED_AFTER, REVISED_BY_MIN = 0.005, timedelta(hours=2), 20


@dataclass(frozen=True, slots=True)
class Report:
    """One outcome on its way: what it says, about which flight, since when it says so, and when it is sent; a repetition is sent later."""

    event_id: str
    entity: str
    revision: int
    delay_min: int
    known_at: datetime
    due: datetime


@dataclass(slots=True)
class Step:
    """What happens in one minute of event time: first what is planned and the facts, then the questions, then the reports."""

    at: datetime
    plans: list[Message] = field(default_factory=list)
    facts: list[Message] = field(default_factory=list)
    questions: list[tuple[str, bytes]] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)


class Timeline:
    """The steps of any span of event time, the same each time for the same year and seed.

    Outcomes are reported when the aircraft lands, but 2 % up to three days late and so out of order, 1 % twice, and 0.5 % wrong at first
    and corrected two hours later by a higher revision.
    """

    def __init__(self, year: Year, seed: int) -> None:
        self._year = year
        self._moments = year.flights["scheduled_departure"] - ASKED_BEFORE_DEPARTURE
        self._reports = _reports(year.flights, seed)

    def warm_up(self, until: datetime, span: timedelta = timedelta(hours=36)) -> list[Message]:
        """What had happened before the first question: the facts of the span before a moment, in order."""
        return [fact for step in self.steps(until - span, until, questions=False) for fact in step.facts]

    def steps(self, after: datetime, until: datetime, *, questions: bool = True, plans: bool = False) -> Iterator[Step]:
        """The steps in (after, until], in order of time.

        Args:
            after: Event time.
            until: Event time.
            questions: With questions and reports.
            plans: With the flights that are planned for a day later, for the schedule topic.
        """
        found: dict[datetime, Step] = {}

        def at(moment: datetime) -> Step:
            step = found.get(moment)
            if step is None:
                step = found[moment] = Step(moment)
            return step

        flights, weather = self._year.flights, self._year.weather
        if plans:
            for row in _between(flights, flights["scheduled_departure"] - PLANNED_AHEAD, after, until, SCHEDULE):
                moment = row.scheduled_departure - PLANNED_AHEAD
                at(moment).plans.append(messages.scheduled(row, moment))
        for row in _between(weather, weather["observed_at"], after, until, ("origin", "observed_at", *WEATHER)):
            at(row.observed_at).facts.append(messages.observed(row))
        for row in _between(flights, flights["departed_at"], after, until, DEPARTURE):
            at(row.departed_at).facts.append(messages.departed(row))
        for row in _between(flights, flights["arrived_at"], after, until, ARRIVAL):
            at(row.arrived_at).facts.append(messages.arrived(row))
        if questions:
            for row in _between(flights, self._moments, after, until, SCHEDULE):
                at(row.scheduled_departure - ASKED_BEFORE_DEPARTURE).questions.append((row.flight_id, orjson.dumps(question(row))))
            for row in _between(self._reports, self._reports["due"], after, until, REPORT):
                at(row.due).reports.append(Report(*row))
        yield from (found[moment] for moment in sorted(found))


def question(flight: Any) -> dict[str, Any]:
    """The request item about one flight."""
    return {
        "flight_id": flight.flight_id,
        "scheduled_departure": iso(flight.scheduled_departure),
        "carrier": flight.carrier,
        "tail_number": flight.tail_number if isinstance(flight.tail_number, str) else None,
        "origin": flight.origin,
        "destination": flight.destination,
        "distance_miles": flight.distance_miles,
    }


def report_item(report: Report, prediction_id: str) -> dict[str, Any]:
    """The feedback item of one report."""
    return {
        "event_id": report.event_id,
        "prediction_id": prediction_id,
        "revision": report.revision,
        "outcome": {"arrival_delay_min": report.delay_min},
        "at": iso(report.known_at),
    }


def _between(table: pd.DataFrame, moments: pd.Series, after: datetime, until: datetime, columns: Sequence[str]) -> Iterator[Any]:
    """The rows in (after, until], with plain datetimes: a year of pandas' own ones, made one by one, takes half of the replay's time."""
    chosen = table.loc[(moments > after) & (moments <= until), list(columns)]
    values = [_plain(chosen[column]) for column in columns]
    make_type: Any = namedtuple  # the type checker takes literal names only
    row = make_type("Row", columns)
    return map(row._make, zip(*values, strict=True))


def _plain(column: pd.Series) -> list[Any]:
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        return list(column.array.to_pydatetime())
    values: list[Any] = column.tolist()
    return values


def _reports(flights: pd.DataFrame, seed: int) -> pd.DataFrame:
    """All reports of all flights that arrive: event_id, entity, revision, delay_min, known_at, due; a row per sending."""
    late, hours, twice, revised, wrong_by = (_chance(flights["flight_id"], seed, what) for what in range(5))
    landed = flights["arrived_at"]
    due = landed.dt.ceil(REPORT_EVERY) + pd.to_timedelta(
        np.where(late < LATE_SHARE, hours * LATE_UP_TO.total_seconds(), 0.0), unit="s"
    ).round("15min")
    table = pd.DataFrame(
        {"entity": flights["flight_id"], "known_at": due, "due": due, "delay_min": flights["arrival_delay_min"], "revision": 0}
    )
    wrong = revised < REVISED_SHARE
    table.loc[wrong, "delay_min"] += np.where(wrong_by[wrong] < 0.5, -REVISED_BY_MIN, REVISED_BY_MIN)
    table["event_id"] = "landed-" + table["entity"] + "-0"
    corrected = table[wrong].assign(
        revision=1,
        known_at=table["due"][wrong] + REVISED_AFTER,
        due=table["due"][wrong] + REVISED_AFTER,
        delay_min=flights["arrival_delay_min"][wrong],
    )
    corrected["event_id"] = "landed-" + corrected["entity"] + "-1"
    again = table[twice < TWICE_SHARE].assign(due=table["due"][twice < TWICE_SHARE].dt.ceil(REPORT_EVERY) + REPORT_EVERY)
    everything = pd.concat([table, corrected, again])
    everything = everything[everything["known_at"].notna()]
    everything["delay_min"] = everything["delay_min"].astype("int64")
    return everything.sort_values(["due", "event_id"], kind="stable", ignore_index=True)


def _chance(entities: pd.Series, seed: int, what: int) -> NDArray[np.float64]:
    """A number in [0, 1) per entity that depends on entity, seed and purpose alone: neither on its place nor on what else is there."""
    drawn = pd.util.hash_array(entities.to_numpy(dtype=object), hash_key=f"{seed % 10**8:08d}report{what:02d}", categorize=False)
    share: NDArray[np.float64] = (drawn >> np.uint64(11)) * 2.0**-53
    return share
