"""Training orders in the ledger: one is open until it is done or failed, whatever became of others."""

import pytest

from ledger_builders import AT, DAY
from mlops_lab.registry.on_sql import SqlLedger
from mlops_lab.registry.open_orders import DONE, FAILED, ORDER, ended_orders, open_orders


def say(ledger: SqlLedger, kind: str, *orders: str) -> None:
    for order in orders:
        ledger.record(kind, order, {"origin": "retrain"}, at=AT, by="trainer", why="a test")


def test_a_ledger_without_orders_has_none_open(ledger: SqlLedger) -> None:
    assert open_orders(ledger) == []
    assert ended_orders(ledger) == frozenset()


def test_orders_are_open_until_they_are_done_or_failed_the_oldest_first(ledger: SqlLedger) -> None:
    say(ledger, ORDER, "train-4", "train-3", "train-2", "train-1")
    say(ledger, DONE, "train-3")
    say(ledger, FAILED, "train-1")

    assert [fact.subject for fact in open_orders(ledger)] == ["train-4", "train-2"]
    assert ended_orders(ledger) == {"train-3", "train-1"}


def test_an_order_that_failed_and_was_then_done_has_ended(ledger: SqlLedger) -> None:
    say(ledger, ORDER, "train-1")
    say(ledger, FAILED, "train-1")
    say(ledger, DONE, "train-1")

    assert open_orders(ledger) == []


@pytest.mark.parametrize("end", [DONE, FAILED])
def test_an_order_that_has_ended_is_not_opened_by_being_given_again(ledger: SqlLedger, end: str) -> None:
    say(ledger, ORDER, "train-1")
    say(ledger, end, "train-1")
    ledger.record(ORDER, "train-1", {"origin": "drill"}, at=AT + DAY, by="tom", why="again")

    assert open_orders(ledger) == []


def test_what_failed_before_it_was_given_has_ended(ledger: SqlLedger) -> None:
    """A message that could not be read leaves a failure and no order."""
    say(ledger, FAILED, "train-1")

    assert open_orders(ledger) == []
    assert ended_orders(ledger) == {"train-1"}


def test_an_order_that_ends_between_the_two_looks_is_open_once_more(ledger: SqlLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for all to be settled looks again, instead of going before what the order published is followed."""
    say(ledger, ORDER, "train-1")
    facts = ledger.facts

    def ending_meanwhile(kind: str | None = None, subject: str | None = None) -> object:
        if kind == ORDER:
            say(ledger, DONE, "train-1")
        return facts(kind, subject)

    monkeypatch.setattr(ledger, "facts", ending_meanwhile)

    assert [fact.subject for fact in open_orders(ledger)] == ["train-1"]
    assert open_orders(ledger) == []
