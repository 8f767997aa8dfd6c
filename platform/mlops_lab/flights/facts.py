"""The facts of this use case by name: what travels on the observations, references and schedule topics.

`events.py` says what their data is. Keys keep in order what belongs to one aircraft, since its last delay is a feature; an airport's
facts need no order, a window over them is a set.
"""

DEPARTED = "FlightDeparted"
"""subject: origin; key: tail number, else flight id; data: flight_id, carrier, origin, tail_number, delay_min."""

ARRIVED = "FlightArrived"
"""subject: destination; key: tail number, else flight id; data: flight_id, destination, tail_number, delay_min."""

OBSERVED = "WeatherObserved"
"""subject and key: airport; data: the values of `transform.WEATHER`."""

LISTED = "AircraftListed"
"""subject and key: tail number; data: seats, built. Slow-moving, so it travels on the references topic."""

SCHEDULED = "FlightScheduled"
"""subject: flight id; key: tail number, else flight id; data: what a question about the flight needs. On the schedule topic."""
