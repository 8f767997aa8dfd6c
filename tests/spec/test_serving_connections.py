"""What a caller meets at the socket: requests in any form HTTP allows, limits, and an end that cuts nothing."""

import json
import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import pytest
import uvicorn

from mlops_lab.errors import LogUnwritable
from mlops_lab.serving.app import create_app
from mlops_lab.serving.on_uvicorn import FastProtocol, server_of
from mlops_lab.serving.prediction_log import read_frames
from mlops_lab.serving.turns import TURN_BYTES, ConnectionLimits, _Disk
from serving_builders import TOKEN, Replica, a_replica, an_item

BODY = json.dumps(an_item()).encode()


@dataclass
class House:
    """A replica behind uvicorn in a thread of this process."""

    server: uvicorn.Server
    port: int
    callers: "list[Caller]" = field(default_factory=list)

    def call(self) -> "Caller":
        """Open a connection."""
        self.callers.append(Caller(self.port))
        return self.callers[-1]


@contextmanager
def listening(replica: Replica, **limits: float) -> Iterator[House]:
    server = server_of(create_app(replica.parts, limits=ConnectionLimits(**limits)))  # type: ignore[arg-type]
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        house = House(server, listener.getsockname()[1])
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        until(lambda: server.started)
        try:
            yield house
        finally:
            for caller in house.callers:
                caller.close()
            server.should_exit = True
            thread.join(timeout=20)
            assert not thread.is_alive()


def until(true: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it does not become true"
        time.sleep(0.005)


def a_request(body: bytes = BODY, *headers: str, path: str = "/v1/predict", line: str = "") -> bytes:
    head = [line or f"POST {path} HTTP/1.1", "Host: x", "Content-Type: application/json", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


class Caller:
    """One connection."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.reader = self.socket.makefile("rb")

    def send(self, *parts: bytes, pause_s: float = 0.0) -> "Caller":
        for part in parts:
            self.socket.sendall(part)
            time.sleep(pause_s)
        return self

    def reply(self) -> tuple[int, dict[str, str], bytes]:
        line = self.reader.readline()
        assert line, "the connection was closed without a reply"
        headers = {}
        while (header := self.reader.readline().strip()) != b"":
            name, _, value = header.decode().partition(": ")
            headers[name.lower()] = value
        return int(line.split()[1]), headers, self.reader.read(int(headers.get("content-length", 0)))

    @property
    def is_closed(self) -> bool:
        return self.reader.read(1) == b""

    def close(self) -> None:
        self.reader.close()
        self.socket.close()


def logged(replica: Replica) -> list[dict[str, object]]:
    return [frame for _, frame in read_frames(replica.directory / "serving/log")]


def test_requests_in_every_form_are_answered(tmp_path: Path) -> None:
    chunked = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    half = len(BODY) // 2
    with listening(a_replica(tmp_path)) as house:
        caller = house.call()
        for parts in (
            [a_request()],
            [a_request(path="/v1/predict?verbose=1")],
            [bytes([byte]) for byte in a_request()],
            [a_request()[:40], a_request()[40:]],
            [chunked, b"%x\r\n" % half + BODY[:half] + b"\r\n", b"%x\r\n" % (len(BODY) - half) + BODY[half:] + b"\r\n0\r\n\r\n"],
        ):
            status, headers, body = caller.send(*parts).reply()
            assert (status, json.loads(body)["probability"]) == (200, 0.3)
            assert "date" in headers
            assert "connection" not in headers
        caller.send(a_request(b"", "Expect: 100-continue").replace(b"Content-Length: 0", b"Content-Length: %d" % len(BODY)))
        assert caller.reader.readline() == b"HTTP/1.1 100 Continue\r\n"
        assert caller.reader.readline() == b"\r\n"
        assert caller.send(BODY).reply()[0] == 200
        for last in (a_request(BODY, "Connection: close"), a_request(line="POST /v1/predict HTTP/1.0")):
            closing = house.call().send(last)
            status, headers, _ = closing.reply()
            assert (status, headers["connection"]) == (200, "close")
            assert closing.is_closed


def test_pipelined_requests_are_answered_in_their_order_whatever_way_each_takes(tmp_path: Path) -> None:
    health = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    with listening(a_replica(tmp_path)) as house:
        caller = house.call()
        for _ in range(20):
            caller.send(a_request() + health + a_request(b"{") + a_request(path="/v1/predict?x") + health + a_request() + a_request())
            replies = [caller.reply() for _ in range(7)]
            assert [status for status, _, _ in replies] == [200, 200, 400, 200, 200, 200, 200]
            assert [b"status" in body for _, _, body in replies] == [False, True, True, False, True, False, False]


def test_what_comes_in_together_is_written_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replica = a_replica(tmp_path)
    sizes: list[int] = []
    write = replica.parts.log.write

    def counted(frames: list[bytes]) -> object:
        sizes.append(len(frames))
        return write(frames)

    monkeypatch.setattr(replica.parts.log, "write", counted)
    with listening(replica) as house:
        caller = house.call().send(a_request() * 10)
        assert {caller.reply()[0] for _ in range(10)} == {200}

    assert sizes == [10]
    assert len(logged(replica)) == 10


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


def test_replies_keep_their_order_when_the_queue_is_full_too(tmp_path: Path) -> None:
    """Whoever pipelines counts on it: the first reply is the first request's."""
    with listening(a_replica(tmp_path), waiting=4) as house:
        caller = house.call().send(b"".join(a_request(BODY, f"X-Request-Id: r{i}") for i in range(12)))
        replies = [caller.reply() for _ in range(12)]
    assert [(status, headers.get("x-request-id")) for status, headers, _ in replies[:4]] == [(200, f"r{i}") for i in range(4)]
    assert [status for status, _, _ in replies[4:]] == [429] * 8


@pytest.mark.parametrize("durability", ["process", "disk"])
def test_garbage_behind_a_request_is_refused_behind_its_reply_and_costs_nobody_else_theirs(
    tmp_path: Path, durability: Literal["process", "disk"]
) -> None:
    with listening(a_replica(tmp_path, durability=durability)) as house:
        for _ in range(10):
            others = [house.call() for _ in range(3)]
            rude = house.call()
            for caller in (*others[:2], rude, others[2]):
                caller.send(a_request() + (b"\x00garbage\r\n\r\n" if caller is rude else b""))
            assert [caller.reply()[0] for caller in others] == [200] * 3
            assert [rude.reply()[0] for _ in range(2)] == [200, 400]
            assert rude.is_closed


def test_an_offer_of_another_protocol_is_not_taken_up(tmp_path: Path) -> None:
    """Some clients offer HTTP/2 with their first request. It is answered in HTTP/1.1, once, and the connection goes on."""
    replica = a_replica(tmp_path)
    offer = a_request(BODY, "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQ")
    with listening(replica) as house:
        for parts in ([offer], [offer[:30], offer[30:-4], offer[-4:]], [a_request(), offer + a_request()]):
            caller = house.call().send(*parts, pause_s=0.02)
            assert {caller.reply()[0] for _ in range(b"".join(parts).count(b"POST "))} == {200}
            assert caller.send(a_request()).reply()[0] == 200
        again = house.call().send(offer + offer * 2000)
        assert [again.reply()[0] for _ in range(2)] == [200, 400]
        assert again.is_closed
        websocket = house.call().send(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        assert websocket.reply()[0] == 200
    assert len(logged(replica)) == 9


def test_trailers_say_nothing_and_do_not_pile_up(tmp_path: Path) -> None:
    head = b"POST /v1/feedback HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunked = head + b"2\r\n{}\r\n0\r\n"
    with listening(a_replica(tmp_path), body_bytes=10_000) as house:
        assert house.call().send(chunked + f"Authorization: Bearer {TOKEN}\r\n\r\n".encode()).reply()[0] == 401
        endless = house.call().send(chunked + b"X-A: " + b"y" * 70_000)
        endless.send(*[b"z" * 50_000] * 2)
        assert endless.reply()[0] == 413


def test_a_body_in_the_smallest_pieces_is_a_body(tmp_path: Path) -> None:
    head = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    with listening(a_replica(tmp_path)) as house:
        caller = house.call().send(head + b"".join(b"1\r\n%c\r\n" % byte for byte in BODY) + b"0\r\n\r\n")
        assert caller.reply()[0] == 200


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


class TestDisk:
    def test_a_reply_waits_for_its_flush_and_those_that_wait_share_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        replica = a_replica(tmp_path, durability="disk")
        may_flush, flushing, flushes = threading.Semaphore(0), threading.Event(), []
        fdatasync = os.fdatasync

        def held(fd: int) -> None:
            flushing.set()
            assert may_flush.acquire(timeout=10)
            flushes.append(len(logged(replica)))
            fdatasync(fd)

        with listening(replica) as house:
            monkeypatch.setattr(os, "fdatasync", held)
            callers = [house.call() for _ in range(6)]
            callers[0].send(a_request())
            assert flushing.wait(10)
            for caller in callers[1:]:
                caller.send(a_request())
            until(lambda: len(logged(replica)) == 6)
            callers[0].socket.settimeout(0.2)
            with pytest.raises(TimeoutError):
                callers[0].socket.recv(1)
            may_flush.release()
            may_flush.release()
            assert {caller.reply()[0] for caller in callers[1:]} == {200}
            may_flush.release()  # for the end of the log

        assert flushes[:2] == [6, 6]

    def test_a_refusal_waits_for_the_reply_before_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        replica = a_replica(tmp_path, durability="disk")
        may_flush, fdatasync = threading.Event(), os.fdatasync

        def held(fd: int) -> None:
            assert may_flush.wait(10)
            fdatasync(fd)

        with listening(replica) as house:
            monkeypatch.setattr(os, "fdatasync", held)
            caller = house.call().send(a_request())
            until(lambda: len(logged(replica)) == 1)
            caller.send(a_request(b"{"))
            time.sleep(0.1)
            may_flush.set()
            assert [caller.reply()[0] for _ in range(2)] == [200, 400]

    def test_what_could_not_be_flushed_is_not_answered(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        replica = a_replica(tmp_path, durability="disk")

        def broken(_: int) -> None:
            raise OSError(5, "Input/output error")

        keyed = a_request(BODY, "Idempotency-Key: k1")
        with listening(replica) as house:
            caller = house.call()
            with monkeypatch.context() as patch:
                patch.setattr(os, "fdatasync", broken)
                status, headers, _ = caller.send(keyed).reply()
                assert (status, headers["retry-after"]) == (503, "1")
            status, headers, _ = caller.send(keyed).reply()
            assert status == 200
            assert "idempotent-replayed" not in headers
            assert caller.send(keyed).reply()[1]["idempotent-replayed"] == "true"

    def test_what_was_handed_over_before_the_loop_hears_of_a_failed_flush_fails_with_it(self) -> None:
        """Also what is in a new segment already, and a repeated key whose record is in the old one: the next flush would succeed."""
        to_the_loop: queue.Queue[Callable[[], None]] = queue.Queue()
        entered, fails, flushes, done = threading.Event(), threading.Event(), [], []

        class Loop:
            def call_soon_threadsafe(self, work: Any, *arguments: Any) -> None:
                to_the_loop.put(lambda: work(*arguments))

        def sync() -> None:
            flushes.append(1)
            entered.set()
            if len(flushes) == 1:
                assert fails.wait(10)
                raise LogUnwritable.at("log", "Input/output error")

        def each_done(calls: list[Any], _: list[Any], error: LogUnwritable | None) -> None:
            done.append((calls[0], error is None))

        disk = _Disk(sync, cast(Any, Loop()), each_done)
        disk.flush(cast(Any, ["a"]), [])
        assert entered.wait(10)
        disk.flush(cast(Any, ["b"]), [])
        fails.set()
        heard = to_the_loop.get(timeout=10)
        disk.flush(cast(Any, ["c"]), [])
        heard()
        assert done == [("a", False), ("b", False), ("c", False)]
        disk.flush(cast(Any, ["d"]), [])
        to_the_loop.get(timeout=10)()
        disk.stop()
        assert done[3:] == [("d", True)]
        assert (len(flushes), disk.waiting) == (2, 0)

    def test_a_flush_that_fails_fails_also_what_was_written_while_it_ran(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The system tells of lost pages once: the flush after it succeeds."""
        replica = a_replica(tmp_path, durability="disk")
        real, flushing, written, seen = os.fdatasync, threading.Event(), threading.Event(), []

        def once(fd: int) -> None:
            seen.append(fd)
            if len(seen) > 1:
                real(fd)
                return
            flushing.set()
            assert written.wait(10)
            raise OSError(5, "Input/output error")

        with listening(replica) as house:
            monkeypatch.setattr(os, "fdatasync", once)
            callers = [house.call() for _ in range(4)]
            callers[0].send(a_request())
            assert flushing.wait(10)
            callers[1].send(a_request(BODY, "Idempotency-Key: k1"))
            until(lambda: len(logged(replica)) == 2)
            callers[2].send(a_request(BODY, "Idempotency-Key: k1"))
            callers[3].send(a_request())
            until(lambda: len(logged(replica)) == 3)
            written.set()
            assert [caller.reply()[0] for caller in callers] == [503] * 4
            status, headers, _ = callers[2].send(a_request(BODY, "Idempotency-Key: k1")).reply()
            assert (status, "idempotent-replayed" in headers) == (200, False)


def test_garbage_behind_a_request_is_refused_behind_its_reply_and_hinders_nobody(tmp_path: Path) -> None:
    """Once, the refusal came first and ended the writing: the reply failed, and with it those of all others of the same turn."""
    with listening(a_replica(tmp_path)) as house:
        callers = [house.call() for _ in range(4)]
        for _ in range(20):
            strangers = [house.call().send(a_request() + b"\0garbage") for _ in range(3)]
            for caller in callers:
                caller.send(a_request())
            assert [caller.reply()[0] for caller in callers] == [200] * 4
            for stranger in strangers:
                assert (stranger.reply()[0], stranger.reply()[0]) == (200, 400)
                assert stranger.is_closed


def test_who_closes_half_of_a_connection_is_answered(tmp_path: Path) -> None:
    with listening(a_replica(tmp_path)) as house:
        leaving, stranger = house.call().send(a_request()), house.call().send(a_request()[:-5])
        for caller in (leaving, stranger):
            caller.socket.shutdown(socket.SHUT_WR)
        assert leaving.reply()[0] == 200
        assert leaving.is_closed
        assert stranger.is_closed


def test_a_reply_that_cannot_be_written_costs_the_others_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = FastProtocol.send_ready
    broken: list[FastProtocol] = []

    def send_ready(protocol: FastProtocol) -> None:
        if not broken:
            broken.append(protocol)
            raise RuntimeError("Cannot call write() after write_eof()")
        written(protocol)

    with listening(a_replica(tmp_path)) as house:
        callers = [house.call() for _ in range(4)]
        assert [caller.send(a_request()).reply()[0] for caller in callers] == [200] * 4
        monkeypatch.setattr(FastProtocol, "send_ready", send_ready)
        for caller in callers:
            caller.send(a_request())
        until(lambda: broken)
        answered = 0
        for caller in callers:
            answered += caller.reader.readline().startswith(b"HTTP/1.1 200")
    assert answered == 3  # and the fourth is at its end
