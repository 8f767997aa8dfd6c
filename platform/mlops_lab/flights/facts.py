"""The facts of this use case by name: what travels on the observations and references topics."""

DEPARTED = "FlightDeparted"
"""subject: origin; data: flight_id, carrier, origin, tail_number, delay_min."""

ARRIVED = "FlightArrived"
"""subject: destination; data: flight_id, destination, tail_number, delay_min."""

OBSERVED = "WeatherObserved"
"""subject: airport; data: the values of `transform.WEATHER`."""

LISTED = "AircraftListed"
"""subject: tail number; data: seats, built. Slow-moving, so it travels on the references topic."""
