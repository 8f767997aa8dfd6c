"""What holds an order back although the evidence is there. Pure; all moments are event time."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime

from mlops_lab.clock import iso
from mlops_lab.retraining.policy import Policy


@dataclass(frozen=True, slots=True)
class Orders:
    """The training orders so far, as the record of orders has them.

    Attributes:
        given: Event times of all orders, whoever gave them and however they ended; aware, any order.
        running: Id of an order that has not ended, None if there is none.
    """

    given: tuple[datetime, ...] = ()
    running: str | None = None


def held_back(orders: Orders | None, decided: Iterable[datetime], at: datetime, policy: Policy) -> str | None:
    """Why no order may be given at this moment, as the end of a sentence; None if it may.

    Args:
        orders: The record of orders; None if it could not be read, which holds everything back.
        decided: Event times of earlier decisions to retrain, for orders that have not reached the record yet.
        at: The moment of the decision, aware. Later orders are no part of its past and are left out.
        policy: Cooldown and daily budget.
    """
    if orders is None:
        return "the record of training orders could not be read"
    if orders.running is not None:
        return f"order {orders.running} is still running"
    # An order and the decision that led to it carry the same moment, so a set counts them once; other orders may share a moment.
    past = sorted(moment for moment in {*orders.given, *decided} if moment <= at)
    if past and at - past[-1] < policy.cooldown:
        return f"the cooldown lasts until {iso(past[-1] + policy.cooldown)}"
    given = sum(moment <= at and _day(moment) == _day(at) for moment in orders.given)
    unrecorded = sum(_day(moment) == _day(at) for moment in set(decided) - set(orders.given) if moment <= at)
    if given + unrecorded >= policy.orders_per_day:
        return f"the daily budget of {policy.orders_per_day} is spent"
    return None


def _day(moment: datetime) -> date:
    return moment.astimezone(UTC).date()
