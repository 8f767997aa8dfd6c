"""Signs of life of a worker: it gives them behind what it has got done, so that one that only fails is found as one that hangs is."""

from collections.abc import Callable
from dataclasses import replace
from typing import NoReturn

import pytest

from mlops_lab.bootstrap import Lab
from mlops_lab.errors import BusUnreachable, RegistryUnreachable, StoreUnreachable
from mlops_lab.events.on_sql import SqlOutbox
from mlops_lab.events.on_sqlite import SqliteBus
from mlops_lab.pipelines.handlers import WATCHING
from mlops_lab.pipelines.worker import Worker
from parcel_builders import week
from pipeline_builders import SmallLab, deliver, give, work


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RETRY_S", "POLL_S", "GUARD_EVERY_S", "IDLE_EVERY_S"):
        monkeypatch.setattr(f"mlops_lab.pipelines.worker.{name}", 0.0)


def nothing(lab: Lab) -> None:
    """A worker's idle work, done at once."""


def signs(lab: SmallLab, steps: int, idle: Callable[[Lab], object] = nothing) -> int:
    """How many a watcher gives in so many steps."""
    given: list[None] = []
    left = iter(range(steps, 0, -1))
    worker = Worker(lab, replace(WATCHING, guard=None, idle=idle), beat=lambda: given.append(None))
    step = worker.step

    def counted() -> int:
        if next(left) == 1:
            worker.stop()
        return step()

    worker.step = counted  # type: ignore[method-assign]
    worker.run()
    return len(given)


def test_there_is_one_behind_each_step(empty: SmallLab) -> None:
    work(empty)

    assert signs(empty, steps=3) == 3


@pytest.mark.parametrize("method", ["pending", "read"])
def test_there_is_none_while_ledger_or_bus_refuses(empty: SmallLab, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a wrong password, say."""
    work(empty)

    def refuse(*_: object, **__: object) -> NoReturn:
        if method == "pending":
            raise RegistryUnreachable.at("postgresql", "wrong password")
        raise BusUnreachable.at("kafka", "wrong password")

    with monkeypatch.context() as refused:
        refused.setattr(SqlOutbox if method == "pending" else SqliteBus, method, refuse)
        assert signs(empty, steps=3) == 0

    assert signs(empty, steps=3) == 3


def test_there_is_none_while_the_idle_work_fails_though_the_steps_in_between_succeed(
    empty: SmallLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is shipped, for a wrong secret of the store, say."""
    work(empty)
    tries: list[None] = []
    looked_again = iter([0.0, 99.0, 99.0, 0.0, 99.0])  # is it time for the idle work?

    def idle(lab: Lab) -> None:
        tries.append(None)
        if len(tries) == 1:
            raise StoreUnreachable.at("s3://tables", "wrong secret")

    step = Worker.step

    def timed(self: Worker) -> int:
        monkeypatch.setattr("mlops_lab.pipelines.worker.IDLE_EVERY_S", next(looked_again))
        return step(self)

    monkeypatch.setattr(Worker, "step", timed)

    assert signs(empty, steps=5, idle=idle) == 2
    assert len(tries) == 3  # once more when it was told to stop


def test_there_are_some_between_the_messages_of_one_step(empty: SmallLab) -> None:
    """A hundred pieces of work in a row may take longer than silence is borne."""
    work(empty)
    given: list[None] = []
    orders = [deliver(empty, week(number)) for number in (1, 2, 3)]
    give(empty, *orders)

    assert Worker(empty, WATCHING, beat=lambda: given.append(None)).step() == len(orders)

    assert len(given) == len(orders)
