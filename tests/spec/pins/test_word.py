"""A pin is a signed word, and the way back is what replicas remember."""

import json
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mlops_lab.clock import iso
from mlops_lab.errors import NothingToPin, PinRefused
from mlops_lab.serving.known import Known, Served
from mlops_lab.serving.pin import opened, sealed, way_back
from pin_builders import a_pin
from serving_builders import KEY, NOON
from serving_builders import MODEL as QUEUES


def test_a_pin_is_read_as_it_was_signed() -> None:
    assert opened(sealed(a_pin(), KEY), [Ed25519PrivateKey.generate().public_key(), KEY.public_key()]) == a_pin()


@pytest.mark.parametrize("field", sorted(json.loads(a_pin().to_bytes())))
def test_a_pin_with_any_field_changed_is_refused(field: str) -> None:
    document = json.loads(sealed(a_pin(), KEY))
    value = document["pin"][field]
    document["pin"][field] = value + 1 if isinstance(value, int) else [*value, 7] if isinstance(value, list) else value + "0"
    with pytest.raises(PinRefused):
        opened(json.dumps(document).encode(), [KEY.public_key()])


NO_PINS = [b"", b"{", b"[]", b"null", b'{"pin": {}, "signature": ""}', b'{"pin": 3, "signature": "00"}', b"\xff", b"[" * 50000, b"7" * 5000]
BADLY_SIGNED = [sealed(a_pin(), Ed25519PrivateKey.generate()), sealed(a_pin(), KEY)[:-1]]
WELL_SIGNED_NONSENSE = [sealed(a_pin(**change), KEY) for change in ({"version": "1"}, {"barred": (True,)}, {"format": "other/1"})]


@pytest.mark.parametrize("content", [*NO_PINS, *BADLY_SIGNED, *WELL_SIGNED_NONSENSE])
def test_what_is_no_pin_is_refused(content: bytes) -> None:
    with pytest.raises(PinRefused):
        opened(content, [KEY.public_key()])


def served(version: int, assignment: int) -> Served:
    return Served(version, assignment, iso(NOON), f"{version:064x}")


def a_memory(now: tuple[int, int], *before: tuple[int, int], **changes: Any) -> Known:
    version, assignment = now
    earlier = tuple(served(*each) for each in before)
    return replace(Known(QUEUES, version, assignment, iso(NOON), f"{version:064x}", iso(NOON), earlier), **changes)


def test_the_way_back_is_the_last_version_that_a_replica_served_by_the_ledgers_order() -> None:
    back = way_back([a_memory((3, 5), (2, 4), (1, 1)), a_memory((2, 4), (1, 1))])

    assert (back.leaving, back.left_assignment, back.barred) == (3, 5, (3,))
    assert [each.version for each in back.choices] == [2, 1]
    assert [each.version for each in way_back([a_memory((3, 5), (2, 4), (1, 1))], to=1).choices] == [1]


def test_what_is_barred_or_was_pinned_away_is_never_chosen() -> None:
    assert [each.version for each in way_back([a_memory((3, 5), (2, 4), (1, 1), barred=(2,))]).choices] == [1]
    pinned = a_pin(version=2, leaving=3, barred=(3,), left_assignment=5, assignment=4)
    again = way_back([a_memory((2, 4), (3, 5), (1, 1))], [pinned])
    assert (again.leaving, again.barred, [each.version for each in again.choices]) == (2, (2, 3), [1])
    for to, says in ((3, "is barred"), (2, "answers already"), (9, "remembers version 9")):
        with pytest.raises(NothingToPin, match=says):
            way_back([a_memory((2, 4), (3, 5), (1, 1))], [pinned], to=to)


@pytest.mark.parametrize("states", [[], [a_memory((1, 1))], [a_memory((2, 2), (1, 1), barred=(1,))]])
def test_with_nothing_to_go_back_to_it_says_so(states: list[Known]) -> None:
    with pytest.raises(NothingToPin):
        way_back(states)
