"""Which training orders are open: given, and neither done nor failed."""

from mlops_lab.registry.ledger import Fact
from mlops_lab.registry.port import Ledger

ORDER, DONE, FAILED = "order", "order_done", "order_failed"
"""Kinds of facts that speak of an order, whose id is their subject."""


def ended_orders(ledger: Ledger) -> frozenset[str]:
    """Ids of the orders that are done or failed. One that could not be given at all has failed too."""
    return frozenset(fact.subject for kind in (DONE, FAILED) for fact in ledger.facts(kind))


def open_orders(ledger: Ledger) -> list[Fact]:
    """The orders that are open, oldest first."""
    ended = ended_orders(ledger)  # read first: what ends between the two looks is open once more, and nobody who waits is let go early
    return [fact for fact in ledger.facts(ORDER) if fact.subject not in ended]
