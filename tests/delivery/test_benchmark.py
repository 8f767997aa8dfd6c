"""The serving benchmark can fail: its arithmetic, its load, and above all its check that every answer is in the log."""

import json
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from benchmarks.serving.evidence import NotInTheLog, Witness, answered, require_logged
from benchmarks.serving.figures import GOALS, Goal, Round, Spread, percentile, ratio
from benchmarks.serving.load import Load, LoadFailed, ask_once, drive, request
from benchmarks.serving.report import page, write
from benchmarks.serving.stages import STAGES, Stopwatch, found
from mlops_lab.serving.prediction_log import PredictionLog

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results"
ROWS = [("p1", 0.25), ("p2", 0.5)]


def a_reply(*rows: tuple[str, float], single: bool = False) -> bytes:
    items = [{"prediction_id": identifier, "probability": probability} for identifier, probability in rows]
    body = json.dumps(items[0] if single else {"request_id": "r", "items": items}, separators=(",", ":")).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body


def append(log: PredictionLog, rows: Sequence[tuple[str, float]]) -> None:
    items = [{"prediction_id": identifier, "probability": probability} for identifier, probability in rows]
    log.append({"kind": "predictions", "variant": "champion", "rows": items})


def test_what_was_answered_and_logged_counts() -> None:
    assert answered([a_reply(*ROWS), a_reply(("p3", 1e-7), single=True)]) == [*ROWS, ("p3", 1e-7)]
    require_logged(ROWS, ROWS[::-1])
    require_logged(ROWS, [*ROWS, ("p3", 0.1)], unanswered=1)


@pytest.mark.parametrize(
    ("replied", "logged", "why"),
    [
        (ROWS, ROWS[:1], "1 of 2 answers are not in the log, such as p2"),
        (ROWS, [*ROWS, ROWS[0]], "more than once, such as p1"),
        ([*ROWS, ROWS[0]], ROWS, "answered twice, such as p1"),
        (ROWS, [ROWS[0], ("p2", 0.5000001)], "another probability, such as p2"),
        (ROWS, [*ROWS, ("p3", 0.1)], "1 rows that nobody was answered"),
    ],
)
def test_a_run_whose_log_tells_another_story_does_not_count(
    replied: list[tuple[str, float]], logged: list[tuple[str, float]], why: str
) -> None:
    with pytest.raises(NotInTheLog, match=why):
        require_logged(replied, logged)


def test_a_200_without_an_id_does_not_count() -> None:
    with pytest.raises(NotInTheLog, match="without a prediction id"):
        answered([b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"])


def test_the_log_of_a_replica_is_followed_over_its_rounds(tmp_path: Path) -> None:
    log, witness = PredictionLog(tmp_path), Witness(tmp_path)
    append(log, [("warm-up", 0.1)])
    witness.skip()
    append(log, ROWS)
    witness.examine([a_reply(*ROWS)])
    assert (witness.answers, witness.kinds["champion"]) == (2, 3)

    with pytest.raises(NotInTheLog, match="p3"):
        witness.examine([a_reply(("p3", 0.1))])
    append(log, ROWS[:1])
    with pytest.raises(NotInTheLog, match="of an earlier round as well, such as p1"):
        witness.examine([a_reply(ROWS[0])])
    log.close()


def test_a_percentile_is_a_value_that_was_measured() -> None:
    assert [percentile(range(1, 101), share) for share in (0.01, 0.5, 0.99, 1.0)] == [1, 50, 99, 100]
    assert percentile([7.0], 0.99) == 7.0
    assert percentile([*[1.0] * 98, 5.0, 9.0], 0.99) == 5.0
    with pytest.raises(ValueError):
        percentile([], 0.5)


def test_ratios_are_taken_round_by_round() -> None:
    """A machine that is half as fast in the second round halves both, and changes no ratio."""
    assert ratio([100, 50, 90], [50, 25, 30]) == Spread(2, 2, 3, (2, 2, 3))
    with pytest.raises(ValueError):
        ratio([1, 2], [1])
    with pytest.raises(ValueError):
        ratio([], [])


def test_a_round_is_counted_from_its_replies() -> None:
    round_ = Round.of(Load([b""] * 4, [0.001, 0.002, 0.003, 0.004], wall_s=0.5, cpu_s=0.1, lost=0), server_cpu_s=0.4, core_idle_s=0.05)
    assert (round_.per_s, round_.p50_ms, round_.p99_ms) == (8, 2, 4)
    assert (round_.cpu_us, round_.server_share, round_.load_share) == pytest.approx((100_000, 0.8, 0.2))
    assert (round_.idle_share, round_.others_share) == pytest.approx((0.1, 0.1))


def test_a_goal_knows_its_direction() -> None:
    more, less = Goal("a", "", 2, 3), Goal("b", "", 2, at_most=True)
    assert [(more.reached(v), more.stretched(v)) for v in (1.9, 2, 3)] == [(False, False), (True, False), (True, True)]
    assert [(less.reached(v), less.stretched(v)) for v in (2.1, 2)] == [(False, None), (True, None)]


@contextmanager
def a_server(*pieces: bytes) -> Iterator[int]:
    """Answers each request of a connection with these pieces, one packet each; an empty one closes the connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    closed = False
                    while not closed and connection.recv(65536):
                        for piece in pieces:
                            if not piece:
                                closed = True
                                break
                            connection.sendall(piece)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def test_the_load_puts_a_reply_together_and_keeps_each() -> None:
    whole = a_reply(*ROWS)
    with a_server(whole[:20], whole[20:60], whole[60:]) as port:
        load = drive(port, [request("/", b"{}")], 1, 0.05)
        assert ask_once(port, request("/", b"{}")) == 200
    assert set(load.replies) == {whole}
    assert len(load.replies) == len(load.latencies_s) >= 1
    assert load.lost == 0


@pytest.mark.parametrize(
    ("pieces", "why"),
    [
        ([b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n"], "no 200"),
        ([b"HTTP/1.1 200 OK\r\n\r\n"], "length"),
        ([a_reply(*ROWS)[:30], b""], "closed"),
    ],
)
def test_the_load_takes_nothing_but_whole_200s(pieces: list[bytes], why: str) -> None:
    with a_server(*pieces) as port, pytest.raises(LoadFailed, match=why):
        drive(port, [request("/", b"{}")], 1, 0.05)


def test_half_a_reply_of_a_killed_server_was_no_answer() -> None:
    with a_server(a_reply(*ROWS)[:30], b"") as port:
        load = drive(port, [request("/", b"{}")], 1, 5, until_death=True)
    assert (load.replies, load.lost) == ([], 1)


def a_result(**changes: object) -> dict[str, Any]:
    """A whole result in which every round and every figure is the same."""
    one = asdict(Round(100.0, 1.0, 2.0, 300.0, 0.9, 0.02, 0.08, 0.3, 500))
    spread = Spread.over([2.0]).to_dict()
    loads = {"c8": ("default", "echo", "hello", "mlflow"), "c1": ("default", "mlflow"), "batch64": ("default", "mlflow")}
    rounds = {load: {name: [one, one] for name in names} for load, names in (loads | {"modes": ("default", "disk")}).items()}
    parity = {"flights": 9, "one_by_one": 3, "with_a_null": 2, "distinct_answers": 9, "largest_difference": 1e-16}
    return {
        **{goal.key: 2.0 for goal in GOALS if not goal.key.startswith("shadow")},
        "spread": dict.fromkeys(("ratio_to_echo_c8", "disk_to_default_c8", "disk_p99_to_default_c8"), spread),
        "rounds": rounds,
        "parity": parity,
        "first_answer_s": dict.fromkeys(("ours", "echo", "mlflow"), spread),
        "resident_mib": dict.fromkeys(("default", "echo", "mlflow"), 90.0),
        "evidence": {name: {"answers": 1000, "answers_before_kill": 10, "again_after_kill_s": 0.5} for name in ("default", "disk")},
        "modes_left_out": ["shadow", "canary"],
        "inside": {"us": {"score": 20.0}, "cpu_us": 70.0, "requests_per_turn": 3.0},
        **changes,
    }


MACHINE = {
    **{
        "measured_at": "2013-04-01T00:00:00+00:00",
        "commit": "0123abc",
        "processor": "A",
        "cores": 2,
        "system": "Linux",
        "python": "CPython 3",
    },
    **{"packages": {"numpy": "2"}, "load_average_before": 0.1, "took_s": 300.0, "quick": False},
}


def test_the_stopwatch_counts_each_stage_for_itself() -> None:
    class Watched:
        def outer(self, times: int) -> int:
            time.sleep(0.002)
            return sum(self.inner() for _ in range(times))

        def inner(self) -> int:
            time.sleep(0.003)
            return 1

    watch = Stopwatch()
    watch.around(Watched, "outer", "headers and validation")
    watch.around(Watched, "inner", "score")
    assert Watched().outer(2) == 2

    assert watch.calls == {"headers and validation": 1, "score": 2}
    assert "score" not in watch.idle_stages()
    assert "metrics" in watch.idle_stages()
    assert watch.per_request_us()["score"] >= 6000
    assert watch.took_s["headers and validation"] < watch.took_s["score"]


@pytest.mark.parametrize(("stage", "where", "name"), STAGES)
def test_every_stage_that_is_watched_exists(stage: str, where: str, name: str) -> None:
    assert callable(getattr(found(where), name)), f"'{stage}' is now somewhere else: correct STAGES in stages.py"


def test_the_result_says_plainly_what_was_not_reached() -> None:
    shown = page(a_result(ratio_to_echo_c8=1.1234), MACHINE)

    (line,) = [line for line in shown.splitlines() if line.startswith("| answers per second at 8 connections, to the FastAPI echo")]
    assert line.endswith("| ≥ 1.3 times | **1.12** | 2 to 2 | **no** | 2: no |")
    (line,) = [line for line in shown.splitlines() if line.startswith("| answers per second with a shadow")]
    assert "not measured" in line


def test_a_machine_that_was_busy_is_called_so() -> None:
    assert "The machine was quiet" in page(a_result(), MACHINE)
    result = a_result()
    result["rounds"]["c8"]["echo"][0] = asdict(Round(100.0, 1.0, 2.0, 300.0, 0.5, 0.2, 0.3, 0.3, 500))
    shown = page(result, MACHINE)
    assert "was not quiet" in shown
    assert "did not saturate" in shown


def test_a_result_is_written_as_a_page_and_as_numbers_that_agree(tmp_path: Path) -> None:
    write(tmp_path, a_result(ratio_to_echo_c8=1.23456789), MACHINE)

    numbers = json.loads((tmp_path / "serving.json").read_text())
    assert numbers["ratio_to_echo_c8"] == 1.23457
    assert page(numbers, numbers["machine"]) == (tmp_path / "serving.md").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["serving.json", "serving.md"]


def test_the_committed_page_is_that_of_the_committed_numbers() -> None:
    numbers = json.loads((RESULTS / "serving.json").read_text())
    assert page(numbers, numbers["machine"]) == (RESULTS / "serving.md").read_text()
    assert not numbers["machine"]["quick"]
