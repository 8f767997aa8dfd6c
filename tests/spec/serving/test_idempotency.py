"""The same Idempotency-Key again: one answer, one entry in the log, also behind a restart, within a stated window."""

import dataclasses
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import orjson
import pytest

from mlops_lab.clock import FixedClock
from mlops_lab.serving.call import Call, Reply
from mlops_lab.serving.contract import Refusal
from mlops_lab.serving.idempotency import Keys, Window
from mlops_lab.serving.prediction_log import read_frames
from mlops_lab.serving.service import Service
from serving_builders import NOON, Replica, a_package, a_replica, an_item


def a_call(key: str | None = "k-1", *, place: str = "gate", many: int = 0, request_id: str | None = None) -> Call:
    item = an_item(place)
    headers = [(b"content-type", b"application/json")]
    headers += [(b"idempotency-key", key.encode())] if key is not None else []
    headers += [(b"x-request-id", request_id.encode())] if request_id is not None else []
    return Call("predict", headers, orjson.dumps({"items": [item] * many} if many else item))


def asked(service: Service, call: Call) -> Reply:
    return service.answer(call)


def logged(replica: Replica) -> list[str]:
    return [row["prediction_id"] for _, frame in read_frames(replica.directory / "serving/log") for row in frame["rows"]]


@pytest.fixture
def replica(tmp_path: Path) -> Replica:
    made = a_replica(tmp_path)
    made.follow()
    return made


@pytest.mark.parametrize("many", [0, 1, 3])
def test_a_repeated_request_gets_the_same_answer_and_no_second_entry(replica: Replica, many: int) -> None:
    service = Service(replica.parts)

    first = asked(service, a_call(many=many, request_id="r-1"))
    replica.books.promote(2, replica.store.put(a_package(0.9)))
    replica.follow()
    again = asked(service, a_call(many=many, request_id="r-2"))

    assert (first.status, again.status) == (200, 200)
    assert again.body == first.body
    assert dict(again.headers)[b"x-request-id"] == b"r-1"
    assert (b"idempotent-replayed", b"true") in again.headers
    assert (b"idempotent-replayed", b"true") not in first.headers
    assert len(logged(replica)) == max(many, 1)
    assert asked(service, a_call("k-2", many=many)).body != first.body


@pytest.mark.parametrize("many", [0, 3])
def test_a_restart_forgets_no_key(replica: Replica, many: int) -> None:
    first = asked(Service(replica.parts), a_call(many=many))
    replica = replica.again()
    replica.follow()
    replica.parts.keys.read_back(replica.parts.log.directory, NOON)

    again = asked(Service(replica.parts), a_call(many=many))

    assert again.body == first.body
    assert (b"idempotent-replayed", b"true") in again.headers
    assert len(logged(replica)) == max(many, 1)


def test_a_key_that_comes_back_with_another_body_is_refused(replica: Replica) -> None:
    service = Service(replica.parts)
    asked(service, a_call())

    reply = asked(service, a_call(place="exit"))

    assert reply.status == 422
    assert orjson.loads(reply.body)["errors"][0]["field"] == "Idempotency-Key"
    assert len(logged(replica)) == 1


def test_a_key_that_comes_twice_at_once_is_answered_once(replica: Replica) -> None:
    service = Service(replica.parts)
    calls = [a_call(), a_call(), a_call(place="exit"), a_call("k-2")]

    service.work(calls)
    service.settle(calls)

    replies = [call.reply for call in calls if call.reply is not None]
    assert [reply.status for reply in replies] == [200, 200, 422, 200]
    assert replies[0].body == replies[1].body != replies[3].body
    assert len(logged(replica)) == 2


def test_what_could_not_be_logged_was_not_answered_and_its_key_is_free(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service(replica.parts)
    with monkeypatch.context() as patch:
        patch.setattr("os.write", _disk_full)
        calls = [a_call(), a_call()]
        service.work(calls)
        service.settle(calls)
        assert [call.reply.status for call in calls if call.reply] == [503, 503]

    reply = asked(service, a_call())

    assert reply.status == 200
    assert (b"idempotent-replayed", b"true") not in reply.headers


def _disk_full(*_: object) -> int:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("key", ["", "x" * 129, "a b", "ä"])
def test_a_key_is_checked(replica: Replica, key: str) -> None:
    assert asked(Service(replica.parts), a_call(key)).status == 422
    assert logged(replica) == []


class TestWindow:
    """The last seconds and the last bytes of the log, whichever is shorter, and so many keys at most."""

    def test_it_ends_by_time_whatever_the_wall_clock_does(self) -> None:
        now = [100.0]
        keys = Keys(Window(seconds=60), monotonic=lambda: now[0])
        keys.keep("k", "a", b"{}", "r")

        now[0] += 59
        assert keys.find("k", "a") is not None
        now[0] += 1
        assert keys.find("k", "a") is None
        assert len(keys) == 0

    def test_it_ends_by_the_bytes_that_were_logged_since(self) -> None:
        keys = Keys(Window(log_bytes=1000))
        keys.keep("k", "a", b"{}", "r")
        keys.wrote(1000)
        assert keys.find("k", "a") is not None
        keys.wrote(1)
        assert keys.find("k", "a") is None

    def test_the_oldest_keys_go_first(self) -> None:
        keys = Keys(Window(most=3))
        for name in "abcd":
            keys.keep(name, "x", b"{}", "r")
        assert [keys.find(name, "x") is not None for name in "abcd"] == [False, True, True, True]

    @pytest.mark.parametrize("by", ["time", "bytes"])
    def test_what_is_outside_of_it_takes_no_memory_though_nobody_asks_for_it(self, by: str) -> None:
        now = [100.0]
        keys = Keys(Window(seconds=60, log_bytes=1000), monotonic=lambda: now[0])
        for i in range(5):
            keys.keep(f"k{i}", "a", b"{}", "r")
            now[0] += 1
            keys.wrote(10)

        now[0] += 57 if by == "time" else 0
        keys.wrote(0 if by == "time" else 980)
        keys.keep("new", "a", b"{}", "r")

        assert len(keys) == 3

    def test_answers_in_memory_have_a_limit_and_are_made_again_from_the_log(self, replica: Replica) -> None:
        keys = Keys(Window(held_bytes=2_000, held_answer_bytes=1_500))
        service = Service(dataclasses.replace(replica.parts, keys=keys))
        keys.read_back(replica.parts.log.directory, NOON)
        many = {f"k{i}": 1 for i in range(40)} | {"large": 30}
        first = {key: asked(service, a_call(key, many=count)) for key, count in many.items()}
        assert len(first["large"].body) > 1_500

        held = sum(len(kept.content) for kept in keys._kept.values())
        assert 0 < held <= 2_000
        assert keys._held_bytes == held
        for key, count in many.items():
            again = asked(service, a_call(key, many=count))
            assert again.body == first[key].body
            assert (b"idempotent-replayed", b"true") in again.headers
        assert len(logged(replica)) == 70

    def test_a_restart_holds_no_more_than_that(self, replica: Replica) -> None:
        service = Service(replica.parts)
        first = [asked(service, a_call(f"k{i}", many=20)) for i in range(20)]
        keys = Keys(Window(held_bytes=3_000))

        assert keys.read_back(replica.parts.log.directory, NOON) == 20

        assert sum(len(kept.content) for kept in keys._kept.values()) <= 3_000 + len(first[0].body)
        for i, reply in enumerate(first):
            kept = keys.find(f"k{i}", _digest(a_call(f"k{i}", many=20)))
            assert kept is not None
            assert kept.content == reply.body

    def test_without_a_log_to_read_from_the_oldest_are_forgotten(self) -> None:
        keys = Keys(Window(held_bytes=1_000))
        for i in range(100):
            keys.keep(f"k{i}", "a", bytes(300), "r")
        assert len(keys) == 3

    def test_a_key_outside_of_it_may_come_with_another_body(self) -> None:
        keys = Keys(Window(seconds=0))
        keys.keep("k", "a", b"{}", "r")
        assert keys.find("k", "b") is None
        keys = Keys()
        keys.keep("k", "a", b"{}", "r")
        with pytest.raises(Refusal, match="another body"):
            keys.find("k", "b")

    @pytest.mark.parametrize(("later", "known"), [(timedelta(seconds=599), True), (timedelta(seconds=601), False), (-timedelta(1), True)])
    def test_a_restart_reads_back_what_is_within_it(self, replica: Replica, later: timedelta, known: bool) -> None:
        asked(Service(replica.parts), a_call())
        keys = Keys()
        assert keys.read_back(replica.parts.log.directory, FixedClock(NOON + later).now()) == known

    def test_a_restart_reads_back_no_more_of_the_log_than_that(self, replica: Replica) -> None:
        service = Service(replica.parts)
        asked(service, a_call("old"))
        for _ in range(40):
            asked(service, a_call(None))
        asked(service, a_call("new"))
        size = replica.parts.log.total_bytes

        found = self._read_back(replica, lambda: Window(log_bytes=size // 4))

        assert found.find("new", _digest(a_call("new"))) is not None
        assert found.find("old", _digest(a_call("old"))) is None

    @staticmethod
    def _read_back(replica: Replica, window: Callable[[], Window]) -> Keys:
        keys = Keys(window())
        keys.read_back(replica.parts.log.directory, NOON)
        return keys


def _digest(call: Call) -> str:
    from mlops_lab.serving.idempotency import digest_of_body

    return digest_of_body(call.body)
