"""Limits at the socket, and an end that cuts nothing."""

import json
import socket
import threading
import time
from pathlib import Path

import pytest

from connection_builders import BODY, a_request, listening, logged
from mlops_lab.serving.turns import TURN_BYTES
from serving_builders import a_replica, an_item
from waiting import until


@pytest.mark.parametrize(
    ("status", "parts"),
    [
        (400, [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"]),
        (400, [b"POST /v1/predict HTTP/9.9\r\n\r\n"]),
        (400, [a_request().replace(b"Content-Length: ", b"Content-Length: -")]),
        (400, [a_request(BODY, "Transfer-Encoding: chunked")]),
        (400, [a_request(BODY, "Content-Length: 3")]),
        (431, [a_request(BODY, "X-Long: " + "x" * 5000)]),
        (431, [a_request(BODY, *(f"X-{i}: {i}" for i in range(100)))]),
        (431, [a_request(path="/" + "x" * 5000)]),
        (431, [b"POST /v1/predict HTTP/1.1\r\nX-Never-Ending: ", *[b"x" * 1000] * 5]),
        (413, [a_request(b"", "X: y").replace(b"Content-Length: 0", b"Content-Length: 999999999")]),
        (413, [b"POST /v1/predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", *[b"4000\r\n" + b" " * 0x4000 + b"\r\n"] * 9]),
        (408, [b"POST /v1/predict HTTP/1.1\r\nHost:"]),
        (408, [a_request()[:-5]]),
        (408, [a_request(path="/v1/predict?x")[:-5]]),
        (408, [a_request() + b"POST /v1/pred"]),
    ],
)
def test_what_goes_beyond_a_limit_gets_a_reason_and_the_connection_ends(status: int, parts: list[bytes], tmp_path: Path) -> None:
    with listening(a_replica(tmp_path), head_bytes=4096, body_bytes=100_000, head_s=0.3, body_s=0.3) as house:
        caller = house.call().send(*parts, pause_s=0.005)
        found, headers, body = caller.reply()
        if status == 408 and found == 200:
            found, headers, body = caller.reply()
        assert (found, headers["connection"], headers["content-type"]) == (status, "close", "application/problem+json")
        assert json.loads(body)["detail"]
        assert caller.is_closed
        assert house.call().send(a_request()).reply()[0] == 200


def test_an_idle_connection_is_closed_and_a_busy_one_is_not(tmp_path: Path) -> None:
    with listening(a_replica(tmp_path), idle_s=0.6) as house:
        idle, busy = house.call(), house.call()
        for _ in range(15):
            assert busy.send(a_request()).reply()[0] == 200
            time.sleep(0.1)
        assert idle.is_closed


def test_a_connection_too_many_is_told_to_come_back(tmp_path: Path) -> None:
    with listening(a_replica(tmp_path), connections=3) as house:
        callers = [house.call() for _ in range(3)]
        assert {caller.send(a_request()).reply()[0] for caller in callers} == {200}
        extra = house.call()
        status, headers, _ = extra.reply()
        assert (status, headers["retry-after"], headers["connection"]) == (429, "1", "close")
        callers[0].close()
        until(lambda: house.call().send(a_request()).reply()[0] == 200)


def test_a_full_queue_turns_away_and_answers_those_it_took(tmp_path: Path) -> None:
    replica = a_replica(tmp_path)
    with listening(replica, waiting=4) as house:
        caller = house.call().send(a_request() * 10)
        replies = [caller.reply() for _ in range(10)]
        assert sorted(status for status, _, _ in replies) == [200] * 4 + [429] * 6
        assert {headers["retry-after"] for status, headers, _ in replies if status == 429} == {"1"}
        assert caller.send(a_request()).reply()[0] == 200

    assert len(logged(replica)) == 5


def test_who_does_not_read_replies_gets_no_more_and_hinders_nobody(tmp_path: Path) -> None:
    many = a_request(json.dumps({"items": [an_item()] * 200}).encode())
    with listening(a_replica(tmp_path), body_s=0.5, waiting=4096, waiting_bytes=64 * 1024 * 1024) as house:
        deaf = house.call()
        deaf.socket.settimeout(0.3)
        with pytest.raises((TimeoutError, ConnectionError)):
            deaf.send(*[many] * 3000)
        assert house.call().send(a_request()).reply()[0] == 200


def test_an_end_finishes_what_began_and_tells_the_others_to_go_elsewhere(tmp_path: Path) -> None:
    """After SIGTERM a request that is half here is answered, an idle connection may send one more, and none is cut."""
    with listening(a_replica(tmp_path), drain_s=0.5) as house:
        begun, idle, forgotten = (house.call() for _ in range(3))
        begun.send(a_request()[:-10])
        assert {caller.send(a_request()).reply()[0] for caller in (idle, forgotten)} == {200}
        house.server.should_exit = True
        until(lambda: _refused(house.port))
        for caller, rest in ((begun, a_request()[-10:]), (idle, a_request())):
            status, headers, _ = caller.send(rest).reply()
            assert (status, headers["connection"]) == (200, "close")
            assert caller.is_closed
        assert forgotten.is_closed


def _refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_long_head_is_refused_behind_another_request_too(tmp_path: Path) -> None:
    with listening(a_replica(tmp_path), head_bytes=4096) as house:
        caller = house.call().send(a_request() + a_request(BODY, "X-Long: " + "x" * 5000))
        assert [caller.reply()[0] for _ in range(2)] == [200, 431]


def test_large_requests_are_worked_on_a_few_at_a_time_and_not_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits is bounded by its size as well as by its number, and small requests get their turn between large ones."""
    replica = a_replica(tmp_path)
    large = a_request(json.dumps({"items": [an_item()] * 1000}).encode())
    sizes: list[int] = []
    write = replica.parts.log.write

    def counted(frames: list[bytes]) -> object:
        sizes.append(len(frames))
        return write(frames)

    monkeypatch.setattr(replica.parts.log, "write", counted)
    with listening(replica, waiting_bytes=8 * len(large)) as house:
        callers = [house.call() for _ in range(16)]
        replies = []
        threads = [threading.Thread(target=lambda c=caller: replies.append(c.send(large).reply()[0])) for caller in callers]  # type: ignore[misc]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
    assert set(replies) <= {200, 429}
    assert replies.count(200) >= 8
    assert max(sizes) <= -(-TURN_BYTES // len(large)) + 1
