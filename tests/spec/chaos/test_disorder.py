"""The disorder of events is as much as it says."""

import random
from datetime import UTC, datetime

import pytest

from mlops_lab.chaos.disorder import LATE_UP_TO, Sending, in_disorder, number_in, shares_of
from mlops_lab.chaos.happenings import happenings
from mlops_lab.events import OBSERVATIONS
from mlops_lab.features.intake import TOO_LATE
from mlops_lab.flights.source import Year


@pytest.mark.parametrize("seed", range(3))
def test_there_is_as_much_disorder_as_is_said(year: Year, seed: int) -> None:
    sent = in_disorder(happenings(year, 3, seed), random.Random(seed), new_ids=False)
    shares = shares_of(sent)
    assert shares.again == pytest.approx(0.10, abs=0.015)
    assert shares.behind == pytest.approx(0.20, abs=0.025)
    assert shares.late == pytest.approx(0.05, abs=0.015)
    assert sent == in_disorder(happenings(year, 3, seed), random.Random(seed), new_ids=False)


def test_nothing_comes_so_late_that_no_row_may_take_it(sendings: list[Sending]) -> None:
    newest = datetime.min.replace(tzinfo=UTC)
    for each in sendings:
        if each.topic == OBSERVATIONS and not each.poison:
            assert each.message.at > max(newest, each.message.at) - TOO_LATE
            newest = max(newest, each.message.at)
    assert LATE_UP_TO < TOO_LATE


def test_each_sending_carries_its_number(sendings: list[Sending]) -> None:
    assert [number_in(each.message.traceparent) for each in sendings] == list(range(1, len(sendings) + 1))
    assert number_in("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01") is None
    assert number_in("") is None


def test_what_is_sent_twice_has_another_id_where_the_bus_knows_ids(year: Year) -> None:
    sent = in_disorder(happenings(year, 1, 7), random.Random(7), new_ids=True)
    assert len({each.message.id for each in sent}) == len(sent)
    assert shares_of(sent).again > 0.08
