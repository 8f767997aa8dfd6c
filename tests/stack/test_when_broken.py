"""What happens to real stacks, under traffic: containers die, the database restarts, a network is cut, the object store hangs.

Nothing that was acknowledged is lost, predictions go on while anything but the service itself is away, and nobody has to help.
"""

import json
import os
import time
import urllib.request
from collections.abc import Mapping

import pytest

from stack.load import Load
from stack.running import Stack, docker, until

RESTARTS = int(os.environ.get("STACK_RESTARTS", "2"))
"""Of the database; 20 in the long form."""


@pytest.fixture(scope="module", autouse=True)
def whole(stack: Stack) -> None:
    """A champion, and nothing broken."""
    stack.lab("begin", timeout_s=600)
    stack.wait_whole()


def test_every_container_is_killed_once_and_comes_back_by_itself(stack: Stack) -> None:
    others = [name for name in stack.long_running() if name != "inference"]
    before = {name: stack.started(name) for name in others}
    with Load(stack) as load:
        for name in others:
            load.goes_on(30)
            stack.kill_9(name)
        load.goes_on(100)
        wait_started_anew(stack, before)
        stack.wait_whole(300)

    assert load.failed == 0, load.statuses
    load.require_in_tables()


def test_a_service_that_is_killed_answers_again_and_has_lost_nothing(stack: Stack) -> None:
    with Load(stack) as load:
        for _ in range(3):
            load.goes_on(50)
            before = {"inference": stack.started("inference")}
            stack.kill_9("inference")
            wait_started_anew(stack, before)
            load.goes_on(50, timeout_s=120)

    assert load.failed > 0, "it was never away"
    stack.wait_whole()
    load.require_in_tables()


def test_the_database_restarts_under_traffic(stack: Stack) -> None:
    with Load(stack) as load:
        for _ in range(RESTARTS):
            load.goes_on(50)
            stack.compose("restart", "postgres")
            until(lambda: stack.healthy("postgres"), bool, 60, "postgres is not healthy")
        load.goes_on(50)

    assert load.failed == 0, load.statuses
    stack.wait_whole()
    load.require_in_tables()
    stack.lab("audit", "verify")  # leaves with an error at the first entry that does not follow from the one before


def test_an_object_store_that_hangs_is_waited_for(stack: Stack) -> None:
    container = stack.container("s3")
    with Load(stack) as load:
        load.goes_on(50)
        docker("pause", container)
        paused = time.monotonic()
        try:
            while time.monotonic() - paused < 20:
                load.goes_on(50)
        finally:
            docker("unpause", container)

    assert load.failed == 0, load.statuses
    stack.wait_whole()
    load.require_in_tables()


def test_a_service_that_is_cut_off_from_all_others_answers_on(stack: Stack) -> None:
    """Its clients are on another network; the ledger, the bus and the store are gone for it."""
    container, network = stack.container("inference"), f"{stack.project}_inside"
    with Load(stack) as load:
        load.goes_on(50)
        docker("network", "disconnect", network, container)
        try:
            load.goes_on(300, timeout_s=120)
        finally:
            docker("network", "connect", "--alias", "inference", network, container)
        load.goes_on(50)

    assert load.failed == 0, load.statuses
    until(lambda: away(stack), lambda names: not names, 60, "the service has not found again")
    stack.wait_whole()
    load.require_in_tables()


def wait_started_anew(stack: Stack, before: Mapping[str, str]) -> None:
    """Until each runs since another moment than before: it was killed, and the engine has noticed and started it again."""
    same = lambda: [name for name, moment in before.items() if stack.started(name) == moment]  # noqa: E731
    until(same, lambda names: not names, 60, "not started again")


def away(stack: Stack) -> list[str]:
    """What the service says that it cannot reach."""
    with urllib.request.urlopen(f"http://127.0.0.1:{stack.port('inference')}/readyz", timeout=10) as answer:
        said = json.load(answer)
    trouble = {name: part["state"] for name, part in said["dependencies"].items() if part["state"] in ("down", "lost", "unknown")}
    return [*said["degraded"], *(f"{name} is {state}" for name, state in trouble.items())]
