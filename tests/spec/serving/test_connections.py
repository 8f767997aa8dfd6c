"""What a caller meets at the socket: requests in any form HTTP allows, answered in their order."""

import json
import socket
from pathlib import Path
from typing import Literal

import pytest

from connection_builders import BODY, a_request, listening, logged
from mlops_lab.serving.on_uvicorn_protocol import FastProtocol
from serving_builders import TOKEN, a_replica
from waiting import until


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
