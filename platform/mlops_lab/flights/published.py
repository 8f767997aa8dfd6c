"""What was published on the bus as the tables of the training side, so that the features of past questions can be computed once more."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from mlops_lab.clock import from_iso
from mlops_lab.events import Message
from mlops_lab.features import Ask
from mlops_lab.features.asked import PastQuestion
from mlops_lab.flights.facts import ARRIVED, DEPARTED, LISTED, OBSERVED, SCHEDULED
from mlops_lab.flights.offline import Happened
from mlops_lab.flights.transform import ASKED_BEFORE_DEPARTURE, WEATHER

OF_THE_AIRCRAFT = frozenset({"seats", "aircraft_age_years", "aircraft_delay_min"})
"""Features that nobody can compute without the tail number, which an answer does not record."""

_PLANNED = ("flight_id", "scheduled_departure", "carrier", "tail_number", "origin", "destination", "distance_miles")


def happened(facts: Iterable[Message]) -> Happened:
    """Facts in the order in which they were published; the same fact twice is one, and of an aircraft's listings the last counts."""
    departures, arrivals, weather = [], [], []
    aircraft: dict[str, tuple[Any, Any]] = {}
    for fact in facts:
        data = fact.data
        if fact.type == DEPARTED:
            departures.append((data["flight_id"], fact.subject, data["carrier"], data["tail_number"], fact.at, float(data["delay_min"])))
        elif fact.type == ARRIVED:
            arrivals.append((data["flight_id"], fact.subject, data["tail_number"], fact.at, float(data["delay_min"])))
        elif fact.type == OBSERVED:
            weather.append((fact.subject, fact.at, *(data[name] for name in WEATHER)))
        elif fact.type == LISTED:
            aircraft[fact.subject] = (data["seats"], data["built"])
    return Happened(
        _table(departures, ("flight_id", "origin", "carrier", "tail_number", "departed_at", "departure_delay_min"), "departed_at"),
        _table(arrivals, ("flight_id", "destination", "tail_number", "arrived_at", "arrival_delay_min"), "arrived_at"),
        _table(weather, ("origin", "observed_at", *WEATHER), "observed_at").astype(dict.fromkeys(WEATHER, "float64")),
        pd.DataFrame([(tail, *said) for tail, said in aircraft.items()], columns=["tail_number", "seats", "built"]),
    )


def planned(asks: Sequence[Ask]) -> tuple[pd.DataFrame, pd.Series]:
    """Questions as the table of planned flights and their moments."""
    rows = [tuple(ask.fields.get(name) for name in _PLANNED) for ask in asks]
    moments = pd.Series([ask.moment for ask in asks], dtype="datetime64[us, UTC]")
    return _table(rows, _PLANNED, "scheduled_departure", distinct=False).astype({"distance_miles": "float64"}), moments


def scheduled(plan: Message) -> Ask:
    """The question about a flight whose plan was published, at the moment at which it is asked."""
    fields = dict(plan.data) | {"scheduled_departure": from_iso(plan.data["scheduled_departure"])}
    return Ask(fields["flight_id"], fields["scheduled_departure"] - ASKED_BEFORE_DEPARTURE, fields)


def accepted_plan(flights: pd.DataFrame, flight_id: str) -> Ask | None:
    """The question about a flight of the accepted batches; None where it is in none of them."""
    found = flights.loc[flights["flight_id"] == flight_id, list(_PLANNED)]
    if found.empty:
        return None
    fields: dict[str, Any] = {str(name): None if value != value else value for name, value in found.iloc[0].items()}
    at = fields["scheduled_departure"] = fields["scheduled_departure"].to_pydatetime()
    return Ask(flight_id, at - ASKED_BEFORE_DEPARTURE, fields)


def questions(answers: pd.DataFrame, published: Iterable[Message]) -> list[PastQuestion]:
    """The questions of recorded answers, in their order. An aircraft is taken from the flight's plan, else from what the flight did.

    Args:
        answers: entity, moment, and the features as scored.
        published: Plans and facts.
    """
    plans, flown = {}, {}
    for message in published:
        if message.type == SCHEDULED:
            plans[message.data["flight_id"]] = message.data["tail_number"]
        elif message.type in (DEPARTED, ARRIVED):
            flown[message.data["flight_id"]] = message.data["tail_number"]
    found = []
    wanted = answers[["entity", "moment", "carrier", "origin", "destination", "distance_miles"]]
    for entity, moment, carrier, origin, destination, distance in wanted.itertuples(index=False, name=None):
        at = moment.to_pydatetime()
        tails: Mapping[str, str | None] = plans if entity in plans else flown
        fields = {
            "flight_id": entity,
            "scheduled_departure": at + ASKED_BEFORE_DEPARTURE,
            "carrier": carrier,
            "tail_number": tails.get(entity),
            "origin": origin,
            "destination": destination,
            "distance_miles": None if distance != distance else distance,
        }
        found.append(PastQuestion(Ask(entity, at, fields), frozenset() if entity in tails else OF_THE_AIRCRAFT))
    return found


def _table(rows: Sequence[tuple[Any, ...]], columns: Sequence[str], moment: str, distinct: bool = True) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=list(columns))
    table[moment] = pd.to_datetime(table[moment], utc=True).astype("datetime64[us, UTC]")
    return table.drop_duplicates(ignore_index=True) if distinct else table
