"""Waiting for the platform: whoever has to do the work is looked after, but not while what he needs is away."""

import asyncio

import pytest

from mlops_lab.errors import BusUnreachable, ServiceNotReady
from mlops_lab.replay import patience
from mlops_lab.replay.patience import Patience

AWAY = BusUnreachable.broker("kafka:9092", "no answer")


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "LIFE_EVERY_S", 0.0)


def waited(*answers: bool | BusUnreachable) -> tuple[int, list[str]]:
    """How often life was looked for until the last answer, which holds; and what was told."""
    told: list[str] = []
    looked: list[None] = []
    left = iter(answers)

    async def condition() -> bool:
        found = next(left)
        if isinstance(found, BusUnreachable):
            raise found
        return found

    made = Patience(lambda: None, told.append, lambda: False, lambda: looked.append(None))
    asyncio.run(made.until(condition, 60, "It did not", "it"))
    return len(looked), told


def test_whoever_has_to_do_the_work_is_looked_after() -> None:
    assert waited(False, False, True) == (2, [])


def test_while_something_is_away_and_for_a_while_afterwards_nobody_has_to_give_a_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers give none meanwhile, and it takes them a moment to give the next."""
    assert waited(AWAY, AWAY, False, False, True) == (0, [AWAY.what, ""])

    monkeypatch.setattr(patience, "AFTER_AWAY_S", 0.0)
    assert waited(AWAY, AWAY, False, False, True) == (2, [AWAY.what, ""])


def test_whoever_is_gone_ends_the_waiting() -> None:
    async def never() -> bool:
        return False

    def gone() -> None:
        raise ServiceNotReady("The watcher is gone.", "start it.")

    with pytest.raises(ServiceNotReady, match="watcher is gone"):
        asyncio.run(Patience(lambda: None, lambda _: None, lambda: False, gone).until(never, 60, "It did not", "it"))
