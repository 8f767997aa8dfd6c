"""What the faults of events send, and the evidence of a run in which all went well."""

import random

import pytest

from mlops_lab.chaos.disorder import Sending, in_disorder
from mlops_lab.chaos.happenings import happenings
from mlops_lab.chaos.streamed import Streamed
from mlops_lab.flights.source import Year
from streamed_builders import in_order


@pytest.fixture(scope="session")
def sendings(year: Year) -> list[Sending]:
    """Three days with outcomes, in disorder, some of it poison."""
    return in_disorder(happenings(year, 3, seed=7, reports=True), random.Random(7), new_ids=False, poison_share=0.01)


@pytest.fixture(scope="session")
def good(sendings: list[Sending]) -> Streamed:
    return in_order(sendings)
