"""A call that hangs costs its deadline once; those behind it are refused at once, until it has ended by itself."""

import threading
import time

import pytest

from mlops_lab.deadline import Aside, TooLate
from mlops_lab.errors import FeatureStoreUnreachable
from mlops_lab.features.breaker import Breaker


def until(condition: threading.Event) -> None:
    assert condition.wait(10)


def test_a_call_returns_and_raises_as_if_made_here() -> None:
    aside = Aside("test")

    assert aside.call(lambda: 7, 10) == 7
    with pytest.raises(ZeroDivisionError):
        aside.call(lambda: 1 / 0, 10)
    aside.end(lambda: None)


def test_behind_a_call_that_hangs_others_are_refused_until_it_ends() -> None:
    aside, go = Aside("test"), threading.Event()
    with pytest.raises(TooLate, match="within 10 ms"):
        aside.call(lambda: until(go), 0.01)
    with pytest.raises(TooLate, match="still hangs"):
        aside.call(lambda: 7, 10)
    go.set()

    while aside.hangs:
        time.sleep(0.001)

    assert aside.call(lambda: 7, 10) == 7
    aside.end(lambda: None)


class Store:
    """Revived when `up`."""

    def __init__(self) -> None:
        self.up = threading.Event()
        self.tried = threading.Semaphore(0)
        self.breaker = Breaker(self.revive, "the tests' store", every_s=0.01)

    def revive(self) -> None:
        self.tried.release()
        if not self.up.is_set():
            raise FeatureStoreUnreachable.at("the tests' store", "it is down", "refused")


def test_a_store_that_is_down_is_tried_aside_until_it_is_up() -> None:
    store = Store()
    for _ in range(3):
        with pytest.raises(FeatureStoreUnreachable):
            store.breaker.require()
        assert store.tried.acquire(timeout=10)
    with pytest.raises(FeatureStoreUnreachable, match="it is down"):
        store.breaker.wait(0.05)

    store.up.set()
    store.breaker.wait(10)

    store.breaker.require()
    store.breaker.end()


def test_a_store_that_fails_again_is_tried_again() -> None:
    store = Store()
    store.up.set()
    store.breaker.wait(10)
    store.up.clear()

    store.breaker.open(FeatureStoreUnreachable.at("the tests' store", "it was lost", "lost"))

    with pytest.raises(FeatureStoreUnreachable):
        store.breaker.require()
    store.up.set()
    store.breaker.wait(10)
    store.breaker.end()
