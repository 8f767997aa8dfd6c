"""What was sent is compared with rows, topics, dead letters and outcomes; whatever is lost, doubled or swapped is seen."""

import struct
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from chaos_builders import broken
from mlops_lab.chaos.disorder import Sending
from mlops_lab.chaos.folded import difference, rows_of
from mlops_lab.chaos.streamed import Laid, Streamed, dead_broken, lost_on_topic, order_broken, outcomes_broken, rows_broken
from mlops_lab.events import FEEDBACK, OBSERVATIONS
from mlops_lab.flights.rows import DELAY_FACT, HEADER, FlightRows
from streamed_builders import a_letter, a_row, facts_of, in_order, lying


def test_rows_worked_out_by_sets_are_those_of_the_platforms_own_fold(sendings: list[Sending]) -> None:
    fold = FlightRows()
    fold.apply(facts_of(sendings))
    assert dict(fold.rows()) == rows_of(facts_of(sendings))


def test_what_is_as_it_should_be_is_not_complained_of(good: Streamed) -> None:
    everything = (*rows_broken(good), *lost_on_topic(good), *order_broken(good.laid), *dead_broken(good), *outcomes_broken(good))
    assert everything == ()


def test_a_lost_fact_is_seen(good: Streamed) -> None:
    ref, row = a_row(good)
    shortened = {**good.rows, ref: row[: -DELAY_FACT.size]}
    found = difference(good.rows, shortened)
    assert (found.lost, found.doubled) == (1, 0)
    assert "lacks 1 components and has 0 too many" in broken(rows_broken(replace(good, rows=shortened)))


def test_a_fact_that_counted_twice_is_seen(good: Streamed) -> None:
    ref, row = a_row(good)
    found = difference(good.rows, {**good.rows, ref: row + row[-DELAY_FACT.size :]})
    assert (found.lost, found.doubled) == (0, 1)


def test_a_row_that_is_missing_or_that_nobody_sent_is_seen(good: Streamed) -> None:
    ref, row = a_row(good)
    without = {known: each for known, each in good.rows.items() if known != ref}
    lost = difference(good.rows, without)
    assert lost.lost == (len(row) - HEADER.size) // DELAY_FACT.size
    assert "is missing" in broken(lost.broken)
    assert "nothing was sent for it" in broken(difference(without, good.rows).broken)
    assert "3 rows of things that were never sent" in broken(rows_broken(replace(good, strangers=3)))


def test_a_row_that_says_it_reaches_further_back_is_seen(good: Streamed) -> None:
    ref, row = a_row(good)
    found = difference(good.rows, {**good.rows, ref: row[:4] + struct.pack("<I", 5) + row[8:]})
    assert (found.lost, found.doubled, len(found.broken)) == (0, 0, 1)


def test_rows_of_nothing_prove_nothing(good: Streamed) -> None:
    assert "nothing was tried" in broken(rows_broken(replace(good, sent=[], rows={})))


def test_an_event_that_was_accepted_and_does_not_lie_there_is_seen(good: Streamed) -> None:
    once = next(each for each in good.sent if each.topic == OBSERVATIONS and not each.poison)
    laid = [each for each in good.laid if each.event and each.event["id"] != once.message.id]
    assert f"event {once.message.id} was accepted" in broken(lost_on_topic(replace(good, laid=laid)))
    one_of_two = [each for each in good.laid if each.number != once.number]
    repeated = len([each for each in good.sent if each.message.id == once.message.id]) > 1
    assert bool(lost_on_topic(replace(good, laid=one_of_two))) is not repeated


def test_a_batch_that_was_sent_again_is_in_order() -> None:
    assert order_broken(lying(1, 2, 1, 2, 3)) == ()
    assert order_broken(lying(1, 3) + lying(2, 4, key="N2")) == ()


@pytest.mark.parametrize("numbers", [(1, 3, 2), (2, 1, 2), (1, 2, 3, 2)])
def test_an_event_that_overtook_another_of_its_key_is_seen(numbers: tuple[int, ...]) -> None:
    assert "lies behind sending" in broken(order_broken(lying(*numbers)))


def test_a_key_in_two_partitions_is_seen() -> None:
    assert "lies in partitions [0, 1]" in broken(order_broken(lying(1) + lying(2, partition=1)))


def test_poison_without_a_letter_and_a_letter_without_poison_are_seen(good: Streamed) -> None:
    assert len(good.letters) > 10
    assert "is not among the dead letters" in broken(dead_broken(replace(good, dead=good.dead[1:])))
    sound = next(each for each in good.laid if each.topic == OBSERVATIONS and each.place not in good.letters)
    assert "is among the dead letters and can be used" in broken(dead_broken(replace(good, dead=[*good.dead, a_letter(sound)])))


def test_burying_again_has_the_effect_of_once_and_garbage_is_poison_too(good: Streamed) -> None:
    garbage = Laid.of(OBSERVATIONS, 0, 99_999, "poison", b"poison 7: no event")
    seen = replace(good, laid=[*good.laid, garbage], dead=[*good.dead, good.dead[0], a_letter(garbage)])
    assert dead_broken(seen) == ()
    assert "99999 cannot be used" in broken(dead_broken(replace(seen, dead=good.dead)))


@pytest.mark.parametrize(("changes", "says"), [({"tries": 1}, "after 1 tries"), ({"raw": "something else"}, "does not hold it")])
def test_a_letter_that_says_something_else_is_seen(good: Streamed, changes: Mapping[str, Any], says: str) -> None:
    poisoned = next(each for each in good.laid if each.place in good.letters)
    others = [each for each in good.dead if each.event and each.event["id"] != poisoned.place]
    assert says in broken(dead_broken(replace(good, dead=[*others, a_letter(poisoned, **changes)])))


def test_what_is_no_letter_and_a_run_without_poison_are_seen(good: Streamed) -> None:
    assert "is no dead letter" in broken(dead_broken(replace(good, dead=[*good.dead, *lying(1)])))
    clean = [each for each in good.sent if not each.poison]
    assert "no dead letter was tried" in broken(dead_broken(in_order(clean)))


def test_an_outcome_that_is_lost_or_doubled_is_seen(good: Streamed) -> None:
    first = good.outcomes[0]
    assert f"outcome {first} was accepted and is not in the table" in broken(
        outcomes_broken(replace(good, outcomes=[each for each in good.outcomes if each != first]))
    )
    assert "times in the table" in broken(outcomes_broken(replace(good, outcomes=[*good.outcomes, first])))
    assert "outcome stranger lies 0 times" in broken(outcomes_broken(replace(good, outcomes=[*good.outcomes, "stranger"])))


def test_an_outcome_that_was_sent_again_is_in_the_table_as_often_as_on_its_topic(good: Streamed) -> None:
    again = next(each for each in good.laid if each.topic == FEEDBACK)
    assert again.event is not None
    twice = replace(good, laid=[*good.laid, again])
    assert outcomes_broken(replace(twice, outcomes=[*good.outcomes, again.event["id"]])) == ()
    assert outcomes_broken(twice) != ()
