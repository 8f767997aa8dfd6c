"""The checkers of E1 to E5 are shown doctored evidence, and what is planted is seen."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from chaos_builders import SECOND, an_answer, broken
from mlops_lab.chaos import broker_kills, outages, processor_kills, publish, store_losses
from mlops_lab.chaos.catalogue import CATALOGUE
from mlops_lab.chaos.folded import Difference
from mlops_lab.chaos.stored import Stored
from mlops_lab.chaos.streamed import Rest, Streamed
from streamed_builders import a_row, in_order, planted


def batch(until: int, began_s: float = 1.0, took_s: float = 0.1, refused: int = 0) -> publish.Accepted:
    return publish.Accepted(until, int(began_s * SECOND), int((began_s + took_s) * SECOND), refused)


AT_REST = Rest(2.0, Difference(0, 0, ()))
NOT_AT_REST = Rest(float("inf"), Difference(2, 1, ("row x lacks 2 components",)))
DOWN = outages.Outage(2 * SECOND, 12 * SECOND)


def test_e1_holds_and_can_fail(good: Streamed) -> None:
    seen = broker_kills.Killed(good, [DOWN], [batch(10)], [AT_REST])
    assert broker_kills.check(seen).held
    assert "1 kills" in broker_kills.check(seen).measured
    assert "0 lost, 0 double" in broker_kills.check(seen).measured
    assert "at rest 2: row x lacks 2" in broken(broker_kills.check(replace(seen, rests=[AT_REST, NOT_AT_REST])))
    assert "2 lost, 1 double" in broker_kills.check(replace(seen, rests=[AT_REST, NOT_AT_REST])).measured
    assert "never killed" in broken(broker_kills.check(replace(seen, outages=[])))
    assert "refused 2 times" in broken(broker_kills.check(replace(seen, accepted=[batch(10, refused=2)])))
    for doctored in planted(good):
        assert not broker_kills.check(replace(seen, streamed=doctored)).held


@pytest.mark.parametrize("name", ["E2", "E5"])
def test_e2_and_e5_hold_and_can_fail(good: Streamed, name: str) -> None:
    check = CATALOGUE[name].check
    seen = processor_kills.Killed(good, 3, 2, [AT_REST], good.rows)
    assert check(seen).held, check(seen).broken
    assert "at rest 1: row x lacks 2" in broken(check(replace(seen, rests=[NOT_AT_REST])))
    assert "nothing was tried" in broken(check(replace(seen, caught=0)))
    ref, row = a_row(good)
    assert "read again from the start: row" in broken(check(replace(seen, again={**good.rows, ref: row[:-8]})))
    assert "not among the dead letters" in broken(check(replace(seen, streamed=replace(good, dead=[]))))
    orderly = in_order([each for each in good.sent if each.message.at > datetime(2999, 1, 1, tzinfo=UTC) - timedelta(days=1)])
    assert "of the facts were twice" in broken(check(replace(seen, streamed=orderly)))
    for doctored in list(planted(good))[:3]:
        assert not check(replace(seen, streamed=doctored)).held


def test_e3_holds_and_can_fail(good: Streamed) -> None:
    loss = store_losses.Loss(4000, 0, 3.0, (0.0, None, 0.0))
    log = Stored([{"kind": "predictions", "request_id": "r1", "rows": [{"prediction_id": "p1"}]}])
    seen = store_losses.Lost([an_answer(1)], log, good, [loss])
    check = store_losses.check
    assert check(seen).held
    assert "1 losses of 4000 rows, complete again ≤ 3.0 s, 1 requests, 0 failed" in check(seen).measured
    for changes, says in (
        ({"left": 4000}, "did not bite"),
        ({"complete_s": 31.0}, "complete after 31.0 s"),
        ({"ages": (0.0, 0.0, 0.0)}, "0.0 s without the store"),
        ({"ages": (0.0, None, None)}, "None s after"),
    ):
        assert says in broken(check(replace(seen, losses=[replace(loss, **changes)])))
    assert "r1 got 503" in broken(check(replace(seen, requests=[an_answer(1, status=503)])))
    assert "took 2.00 s" in broken(check(replace(seen, requests=[an_answer(1, done_ns=3 * SECOND)])))
    assert "not in the log" in broken(check(replace(seen, stored=Stored())))
    assert "nothing was tried" in broken(check(replace(seen, losses=[])))
    assert not check(replace(seen, streamed=next(planted(good)))).held


def test_e4_holds_and_can_fail(good: Streamed) -> None:
    accepted = [batch(10, 1.0), batch(20, 3.0, 2.0), batch(420, 6.0), batch(440, 14.0)]
    seen = outages.Away(good, DOWN, accepted, 2.5, 4.0)
    check = outages.check
    assert check(seen).held
    assert "10 s away, 400 events spooled" in check(seen).measured
    hindered = [batch(10, 1.0), batch(20, 3.0, 2.0), batch(220, 6.0), batch(240, 14.0)]
    assert "publishers went on at 20.0 events a second" in broken(check(replace(seen, accepted=hindered)))
    assert "nothing was tried" in broken(check(replace(seen, accepted=[batch(10, 1.0)])))
    assert "`publish` took 21.0 s" in broken(check(replace(seen, accepted=[*accepted, batch(450, 20.0, 21.0)])))
    assert "inf s after the broker was back" in broken(check(replace(seen, drained_s=float("inf"))))
    for doctored in list(planted(good))[:3]:
        assert not check(replace(seen, streamed=doctored)).held
