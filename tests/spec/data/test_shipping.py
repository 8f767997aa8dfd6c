"""What the prediction log says is in the tables once, whatever dies in between and however often it is read."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mlops_lab.data import Column, Shipped, Shipper, frames, shipping
from mlops_lab.data.on_delta import DeltaTables
from mlops_lab.data.shadow import SHADOW_SCORES
from mlops_lab.data.shipping import SET_ASIDE
from mlops_lab.errors import ProgressMoved, SchemaRefused

AT = "2013-04-01T12:00:00Z"


class Distance:
    name, kind = "distance", "number"


class City:
    name, kind = "city", "category"


OUTCOME = (Column("late", "flag"), Column("delay_min", "number"))


@pytest.fixture
def tables(tmp_path: Path) -> DeltaTables:
    return DeltaTables(tmp_path / "tables")


@pytest.fixture
def shipper(tables: DeltaTables) -> Shipper:
    return Shipper(tables, [Distance(), City()], OUTCOME)


def answers(*numbers: int, **different: Any) -> dict[str, Any]:
    rows = [
        {
            "prediction_id": f"p{n}",
            "entity": f"e{n}",
            "moment": AT,
            "features": [n / 2, None],
            "ages_s": {"b": None, "a": 1.5},
            "probability": 0.5,
        }
        for n in numbers
    ]
    frame = {
        "kind": "predictions",
        "request_id": "r",
        "model": "m",
        "model_version": 3,
        "scorer_sha256": "s",
        "assignment": 7,
        "variant": "champion",
        "purpose": "live",
        "answered_at": "2026-01-01T00:00:00.123456Z",
        "rows": rows,
    }
    return frame | different


def feedback(*numbers: int, **outcome: Any) -> dict[str, Any]:
    items = [{"event_id": f"v{n}", "prediction_id": f"p{n}", "revision": 0, "at": AT, "outcome": {"late": True} | outcome} for n in numbers]
    return {"kind": "feedback", "request_id": "r", "received_at": "2026-01-01T00:00:00Z", "items": items}


LOG: list[tuple[int, dict[str, Any]]] = [(10, answers(1, 2)), (20, feedback(1)), (30, answers(3)), (40, feedback(2, 3)), (50, answers(4))]


def behind(position: int) -> list[tuple[int, dict[str, Any]]]:
    return [(at, frame) for at, frame in LOG if at > position]


def shipped(tables: DeltaTables) -> tuple[list[str], list[str]]:
    return sorted(tables.read("predictions")["prediction_id"]), sorted(tables.read("outcomes")["event_id"])


ALL = (["p1", "p2", "p3", "p4"], ["v1", "v2", "v3"])


def test_frames_become_rows_with_their_features(tables: DeltaTables, shipper: Shipper) -> None:
    assert shipper.ship("one", LOG) == Shipped(predictions=4, outcomes=3, position=50)

    row = tables.read("predictions", filters=[("prediction_id", "=", "p3")]).to_dict("records")[0]
    assert row["answered_at"] == datetime(2026, 1, 1, 0, 0, 0, 123456, tzinfo=UTC)
    assert row["moment"] == datetime(2013, 4, 1, 12, tzinfo=UTC)
    assert (row["distance"], row["city"], row["ages_s"]) == (1.5, None, '{"a":1.5,"b":null}')
    assert (row["model"], row["model_version"], row["assignment"]) == ("m", 3, 7)
    outcome = tables.read("outcomes", filters=[("event_id", "=", "v1")]).to_dict("records")[0]
    assert (outcome["prediction_id"], outcome["late"]) == ("p1", True)
    assert outcome["delay_min"] != outcome["delay_min"]


def test_reading_on_from_the_position_or_all_over_again_is_the_same(tables: DeltaTables, shipper: Shipper) -> None:
    shipper.ship("one", LOG[:2])
    assert shipper.position("one") == 20

    assert shipper.ship("one", LOG) == Shipped(predictions=2, outcomes=2, position=50)
    assert shipper.ship("one", behind(shipper.position("one"))) == Shipped(0, 0, 50)
    assert shipper.ship("one", LOG) == Shipped(0, 0, 50)
    assert shipped(tables) == ALL


def test_two_replicas_have_a_position_each(tables: DeltaTables, shipper: Shipper) -> None:
    shipper.ship("one", LOG[:2])
    assert shipper.position("two") == 0
    shipper.ship("two", [(10, answers(9))])
    assert shipped(tables)[0] == ["p1", "p2", "p9"]


@pytest.mark.parametrize("chunk", [1, 2, 5])
@pytest.mark.parametrize("dies_at", range(1, 11))
def test_a_death_before_or_behind_any_append_loses_and_doubles_nothing(
    tables: DeltaTables, monkeypatch: pytest.MonkeyPatch, chunk: int, dies_at: int
) -> None:
    monkeypatch.setattr(shipping, "CHUNK", chunk)
    append, calls = DeltaTables.append, 0

    def dying(*arguments: Any, **named: Any) -> int:
        nonlocal calls
        calls += 1
        if calls == dies_at:
            if dies_at % 2:
                append(*arguments, **named)  # written, but nobody lives to hear of it
            raise KeyboardInterrupt
        return append(*arguments, **named)

    monkeypatch.setattr(DeltaTables, "append", dying)
    for _ in range(2):
        try:
            shipper = Shipper(tables, [Distance(), City()], OUTCOME)
            shipper.ship("one", behind(shipper.position("one")))
        except KeyboardInterrupt:
            monkeypatch.setattr(shipping, "CHUNK", 3)  # the next one cuts the log elsewhere

    assert shipped(tables) == ALL


def test_two_shippers_of_one_log_double_nothing(tables: DeltaTables, shipper: Shipper, tmp_path: Path) -> None:
    """One of them finds that the progress moved under it and stops."""
    other = Shipper(DeltaTables(tmp_path / "tables"), [Distance(), City()], OUTCOME)

    def slow() -> Any:
        yield LOG[0]
        other.ship("one", LOG[:3])
        yield from LOG[1:]

    with pytest.raises(ProgressMoved, match="one process at a time"):
        shipper.ship("one", slow())
    shipper.ship("one", behind(shipper.position("one")))
    assert shipped(tables) == ALL


@pytest.mark.parametrize(
    "strange",
    [
        {"kind": "weather"},
        {},
        answers(1, rows=[{"prediction_id": "p1"}]),
        answers(1, answered_at="yesterday"),
        answers(1, model_version="three"),
        answers(1) | {"rows": [answers(1)["rows"][0] | {"features": [1.0]}]},
        answers(1) | {"rows": [answers(1)["rows"][0] | {"features": ["far", "Ulm"]}]},
        feedback(1, weather="fine"),
        feedback(1, late="perhaps"),
        feedback(1) | {"items": [{"event_id": "v1"}]},
        {"kind": "shadow", "rows": [{}]},
        {"kind": "incident", "at": "yesterday", "what": "w", "subject": "s", "why": "y", "digests": {}},
        {"kind": ["predictions"]},
    ],
)
def test_a_frame_that_is_not_understood_is_set_aside_whole_and_holds_up_nothing(
    tables: DeltaTables, shipper: Shipper, strange: dict[str, Any]
) -> None:
    """A frame of a newer release, or of a broken one, is neither lost nor in the way of those behind it."""
    shipper.ship("one", LOG[:1])

    done = shipper.ship("one", [(15, strange), *LOG[1:]])

    assert (done.aside, done.position) == (1, 50)
    assert shipped(tables) == ALL
    aside = tables.read(SET_ASIDE).to_dict("records")
    assert [(row["replica"], row["position"], json.loads(row["frame"])) for row in aside] == [("one", 15, strange)]
    assert aside[0]["kind"] == (strange["kind"] if isinstance(strange.get("kind"), str) else "none")
    assert aside[0]["why"]


def test_setting_aside_again_changes_nothing(tables: DeltaTables, shipper: Shipper) -> None:
    log = [(5, {"kind": "weather"}), *LOG[:2], (25, {"kind": "tides"}), *LOG[2:]]
    shipper.ship("one", log[:2])
    shipper.ship("one", log)
    shipper.ship("one", log)

    assert sorted(tables.read(SET_ASIDE)["position"]) == [5, 25]
    assert shipped(tables) == ALL


def test_a_release_that_understands_takes_up_what_was_set_aside_once(tables: DeltaTables, tmp_path: Path) -> None:
    """The older release knows no answers; the newer one reads what the older one kept."""
    with pytest.MonkeyPatch.context() as older:
        older.setattr(frames, "KINDS", ("feedback",))
        assert Shipper(tables, [Distance(), City()], OUTCOME).ship("one", LOG).aside == 3
    assert shipped(tables) == ([], ALL[1])

    for _ in range(2):
        newer = Shipper(DeltaTables(tmp_path / "tables"), [Distance(), City()], OUTCOME)
        taken = newer.take_up()
        assert [position for position, _ in taken["one"]] == [10, 30, 50]
        assert shipped(tables) == ALL


def test_a_table_of_another_shape_stops_the_shipping(tmp_path: Path, shipper: Shipper) -> None:
    """That is not the frames' fault, so they are not set aside for it."""
    shipper.ship("one", LOG)
    other = Shipper(DeltaTables(tmp_path / "tables"), [City()], OUTCOME)
    narrow = answers(9, rows=[answers(9)["rows"][0] | {"features": [None]}])

    with pytest.raises(SchemaRefused, match="other columns"):
        other.ship("one", [(60, narrow)])


# --- Canary, shadow, incident ------------------------------------------------------------------------------------------------------


def shadow(*numbers: int) -> dict[str, Any]:
    rows = [{"prediction_id": f"p{n}", "probability": 0.25, "champion_probability": 0.5} for n in numbers]
    return {
        "kind": "shadow",
        "model": "m",
        "model_version": 4,
        "scorer_sha256": "t",
        "assignment": 8,
        "scored_at": "2026-01-01T00:00:01Z",
        "took_us": 40.0,
        "rows": rows,
    }


TRIAL = {"canary": 4, "champion": 3, "canary_us": None, "champion_us": 40.0, "champion_probabilities": [0.4], "error": "no answer"}


def test_an_answer_by_the_canary_is_an_answer(tables: DeltaTables, shipper: Shipper) -> None:
    """It is what was given, once; what the champion would have said stays in the log, with key, digest and trace."""
    told = {"trial": TRIAL | {"error": None}, "key": "k", "asked": "d", "trace": "00-a-b-01"}
    shipper.ship("one", [(10, answers(1)), (20, answers(2, variant="canary", model_version=4, **told)), (30, answers(3, trial=TRIAL))])

    rows = tables.read("predictions").sort_values("prediction_id")
    assert rows["variant"].tolist() == ["champion", "canary", "champion"]
    assert rows["model_version"].tolist() == [3, 4, 3]
    assert tables.version(SET_ASIDE) == 0


def test_shadow_scores_have_a_table_of_their_own_with_the_same_progress(tables: DeltaTables, shipper: Shipper) -> None:
    log = [(10, answers(1, 2)), (20, shadow(1, 2)), (30, answers(3)), (40, shadow(3))]
    assert shipper.ship("one", log[:2]) == Shipped(predictions=2, outcomes=0, position=20, shadows=2)
    assert shipper.ship("one", log) == Shipped(predictions=1, outcomes=0, position=40, shadows=1)
    assert shipper.ship("one", log) == Shipped(0, 0, 40)

    rows = tables.read(SHADOW_SCORES).sort_values("prediction_id")
    assert rows["prediction_id"].tolist() == ["p1", "p2", "p3"]
    row = rows.to_dict("records")[0]
    assert (row["model_version"], row["assignment"], row["probability"], row["champion_probability"]) == (4, 8, 0.25, 0.5)
    assert row["scored_at"] == datetime(2026, 1, 1, 0, 0, 1, tzinfo=UTC)
    assert sorted(tables.read("predictions")["prediction_id"]) == ["p1", "p2", "p3"]


def test_what_follows_a_chunk_comes_when_its_rows_are_in_the_tables(tables: DeltaTables, shipper: Shipper) -> None:
    seen: list[tuple[int, int, list[str]]] = []
    log = [*LOG[:2], (25, {"kind": "weather"})]

    shipper.ship("one", log, then=lambda chunk: seen.append((chunk.last, len(chunk.aside), shipped(tables)[0])))

    assert seen == [(25, 1, ["p1", "p2"])]


def test_a_chunk_is_bounded_in_rows_too(shipper: Shipper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipping, "CHUNK_ROWS", 3)
    cut: list[int] = []

    shipper.ship("one", LOG, then=lambda chunk: cut.append(chunk.last))

    assert cut == [20, 40, 50]  # 3 rows, 3 rows, the rest
