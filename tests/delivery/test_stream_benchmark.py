"""The benchmark of the stream processor measures what really happened, and its page says it."""

import json
from pathlib import Path

import pytest

from benchmarks.stream import page as pages
from benchmarks.stream.material import Pair, elsewhere, facts, opened
from benchmarks.stream.measures import Burst, burst, memory, throughput
from mlops_lab.settings import Settings
from stream_builders import rows_of

PAIR = Pair("embedded", "memory")


@pytest.fixture
def settings(flight_data: Path) -> Settings:
    return Settings(data=flight_data)


def test_every_event_is_taken_in_and_the_shares_are_of_all_the_time(settings: Settings, tmp_path: Path) -> None:
    some = facts(settings.data, 2500)
    with opened(PAIR, settings, tmp_path) as place:
        found = throughput(PAIR, place, some)
        assert place.store.held == rows_of(some)  # type: ignore[attr-defined]
    assert found.events == 2500
    assert found.rows == len(rows_of(some))
    assert sum(found.shares.values()) == pytest.approx(1)
    assert min(found.shares.values()) >= 0


def test_a_burst_ends_when_all_of_it_is_in_rows(settings: Settings, tmp_path: Path) -> None:
    some = facts(settings.data, 3000)
    with opened(PAIR, settings, tmp_path / "home") as place:
        found = burst(PAIR, place, some[:1000], some[1000:], tmp_path)
        assert place.store.held == rows_of(some)  # type: ignore[attr-defined]
    assert found.events == 2000
    assert found.caught_up_s > 0
    assert 0 <= found.most_behind <= 2000


def test_other_worlds_have_rows_of_their_own(settings: Settings) -> None:
    some = facts(settings.data, 500)
    assert not rows_of(some).keys() & rows_of([elsewhere(fact, 1) for fact in some]).keys()
    found = memory(some, 1000, lambda rows: 100.0 * len(rows))
    assert found.rows >= 1000
    assert found.store_bytes == 100
    assert found.row_bytes > 8  # what the fold takes is too little to see at this size


def test_the_page_says_what_was_measured_and_what_was_not(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    some = facts(settings.data, 500)
    with opened(PAIR, settings, tmp_path / "home") as place:
        flow = throughput(PAIR, place, some)
    monkeypatch.setattr(pages, "RESULTS", tmp_path / "results")
    text = pages.write([flow], [Burst(PAIR.name, 2000, 0.5, 1.25, 700)], memory(some, 300, None), ["Kafka: nobody answers."])
    assert f"| {PAIR.name} | 2,000 | 0.5 s | 1.2 s | 700 events |" in text
    assert "Not measured: Kafka: nobody answers." in text
    assert "Redis" not in text
    said = json.loads((tmp_path / "results" / "stream.json").read_text())
    assert said["throughput"][0]["events"] == 500
    assert said["memory"]["store_bytes"] is None
