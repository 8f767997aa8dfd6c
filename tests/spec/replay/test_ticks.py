"""Event time stands still while a week is decided, and goes by at the speed that was chosen."""

import asyncio
import time

import pytest

from flight_builders import SCHEDULED, a_flight, a_year
from mlops_lab.errors import ServiceNotReady
from mlops_lab.events import CONTROL
from mlops_lab.flights.timeline import Timeline
from mlops_lab.replay import driver as driver_module
from mlops_lab.replay.driver import Progress
from replay_builders import DAY, Stage, flights_of


def test_event_time_stands_at_a_tick_until_all_is_decided_and_probes_go_on(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver_module, "PROBE_EVERY_S", 0.001)
    looks: list[tuple[int, list[str]]] = []

    def settled() -> bool:
        looks.append((stage.bus.head(CONTROL), stage.service.asked()))
        return len([one for one in looks if one[0] == 1]) >= 3

    stage.settled = settled
    year = a_year([a_flight("before"), a_flight("after", scheduled_departure=SCHEDULED + 2 * DAY)])
    progress = stage.play(year, SCHEDULED + DAY, SCHEDULED + 3 * DAY)
    ticks = [(each.message.type, each.message.at) for each in stage.bus.read(CONTROL, 0)]

    assert looks[:3] == [(1, ["before"])] * 3
    assert stage.service.asked() == ["before", "after"]
    assert ticks == [("ClockReached", SCHEDULED + DAY), ("ClockReached", SCHEDULED + 3 * DAY)]
    assert stage.journal.tally("probe").attempts >= 2
    assert stage.journal.tally("probe").failed == 0
    assert progress.held_s > 0


def test_a_tick_waits_until_the_service_serves_the_champion_of_the_ledger(stage: Stage) -> None:
    answers = iter([False, False, True])
    stage.agreed = lambda body: next(answers)

    assert stage.play(flights_of("a"), SCHEDULED).at == SCHEDULED
    assert next(answers, "all were asked for") == "all were asked for"


def test_a_dead_watcher_ends_the_wait_with_its_error(stage: Stage) -> None:
    def look() -> None:
        raise ServiceNotReady("The watcher is dead.", "see its log.")

    stage.settled, stage.on_wait = lambda: False, look
    with pytest.raises(ServiceNotReady, match="watcher is dead"):
        stage.play(flights_of("a"), SCHEDULED)
    assert stage.journal.cursor() == SCHEDULED  # what was asked is written down, and its tick is told
    assert stage.bus.head(CONTROL) == 1


@pytest.mark.parametrize(("settled", "who"), [(False, "watcher"), (True, "service")])
def test_a_platform_that_does_not_settle_in_time_is_named(stage: Stage, monkeypatch: pytest.MonkeyPatch, settled: bool, who: str) -> None:
    monkeypatch.setattr(driver_module, "SETTLE_TIMEOUT_S", 0.0)
    stage.settled, stage.agreed = lambda: settled, lambda body: False

    with pytest.raises(ServiceNotReady, match=who):
        stage.play(flights_of("a"), SCHEDULED)


def test_at_a_chosen_speed_event_time_goes_by_in_wall_time_whether_something_happens_or_not(stage: Stage) -> None:
    """A day is 1,440 minutes, of which two have something in them."""
    stage.minute_s = 0.5 / 1440
    began = time.monotonic()

    stage.play(flights_of("A"), SCHEDULED, after=SCHEDULED - DAY)

    assert 0.5 <= time.monotonic() - began < 5


def test_a_slow_replay_hears_at_once_that_it_is_to_stop(stage: Stage) -> None:
    stage.minute_s = 60.0
    driver = stage.driver()

    async def play() -> Progress:
        asyncio.get_running_loop().call_later(0.1, driver.stop)
        return await driver.play(Timeline(flights_of("A"), seed=1), SCHEDULED - DAY, [SCHEDULED])

    began = time.monotonic()
    progress = asyncio.run(play())

    assert driver.stopped
    assert progress.questions == 0
    assert time.monotonic() - began < 5
