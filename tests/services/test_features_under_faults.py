"""The online store fails under load, in front of a real serving process: no request fails, none waits for it twice, answers say what
they were made of, and everything comes back by itself."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import pytest
import redis

import serving_builders
from own_redis import LAYOUT, OwnRedis, fill, free_port, rows_at_noon

FLIGHT = {"flight_id": "f", "scheduled_departure": "2013-07-01T13:00:00Z", "carrier": "UA", "origin": "EWR", "destination": "IAH"}
BODY = json.dumps(FLIGHT | {"tail_number": "N1"}).encode()
NOTHING = {"weather": None, "origin_departures": None, "destination_arrivals": None, "aircraft": None}
KNOWN = {"weather": 540.0, "origin_departures": 180.0, "destination_arrivals": None, "aircraft": 180.0}


@pytest.fixture
def store() -> Iterator[OwnRedis]:
    server = OwnRedis()
    server.start()
    yield server
    server.end()


class Served:
    """A service that reads its features from a store, and clients that never pause."""

    def __init__(self, directory: Path, store: OwnRedis, password_file: Path | None = None) -> None:
        self.port = free_port()
        self.answers: list[tuple[int, dict[str, Any]]] = []
        self.broken: list[str] = []
        self._stopping = threading.Event()
        where = {"LAB_HOME": str(directory), "LAB_FEATURES__STORE": "redis", "LAB_FEATURES__REDIS": store.url}
        where |= {"LAB_FEATURES__REDIS_PASSWORD_FILE": str(password_file)} if password_file else {}
        command = [sys.executable, serving_builders.__file__, str(directory), str(self.port), "features"]
        with (directory / "stderr").open("wb") as stderr:
            self._process = subprocess.Popen(command, env=os.environ | where, stderr=stderr)
        self.until(lambda: self.get("/readyz")[0] == 200)
        self._clients = [threading.Thread(target=self._ask, daemon=True) for _ in range(3)]
        for client in self._clients:
            client.start()

    def get(self, path: str) -> tuple[int, bytes]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("GET", path)
            reply = connection.getresponse()
            return reply.status, reply.read()
        except (OSError, HTTPException):
            return 0, b""
        finally:
            connection.close()

    def state(self) -> dict[str, Any]:
        """What /readyz says of the features."""
        status, body = self.get("/readyz")
        assert status == 200
        said: dict[str, Any] = json.loads(body)["dependencies"]["features"]
        return said

    def metric(self, name: str) -> float:
        found = re.search(rf"^{re.escape(name)} (\S+)$", self.get("/metrics")[1].decode(), re.MULTILINE)
        return float(found[1]) if found else 0.0

    def until(self, condition: Callable[[], bool], patience_s: float = 30) -> None:
        deadline = time.monotonic() + patience_s
        while not condition():
            assert time.monotonic() < deadline, f"it did not come to that; last {self.answers[-1:]}, {self.broken[:3]}"
            time.sleep(0.02)

    def until_answers_are(self, state: str, ages_s: dict[str, float | None]) -> None:
        self.until(lambda: bool(self.answers) and self._last() == (200, state, ages_s))

    def and_then(self, answers: int = 200) -> None:
        """So many more."""
        wanted = len(self.answers) + answers
        self.until(lambda: len(self.answers) >= wanted)

    def end(self) -> None:
        """Stop, and see that nothing had failed."""
        self._stopping.set()
        for client in self._clients:
            client.join(20)
        self._process.terminate()
        assert self._process.wait(20) in (0, -signal.SIGTERM)
        assert self.broken == []
        assert {status for status, _ in self.answers} == {200}

    def _last(self) -> tuple[int, Any, Any]:
        status, answer = self.answers[-1]
        return status, answer.get("feature_state"), answer.get("feature_ages_s")

    def _ask(self) -> None:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=20)
        while not self._stopping.is_set():
            try:
                connection.request("POST", "/v1/predict", BODY, {"Content-Type": "application/json"})
                reply = connection.getresponse()
                self.answers.append((reply.status, json.loads(reply.read())))
            except (OSError, HTTPException) as error:
                self.broken.append(repr(error))
        connection.close()


@pytest.fixture
def served(tmp_path: Path, store: OwnRedis) -> Iterator[Served]:
    fill(store, tmp_path)
    served = Served(tmp_path, store)
    served.until_answers_are("fresh", KNOWN)
    yield served
    served.end()


def test_a_store_that_is_killed_and_comes_back_empty(tmp_path: Path, store: OwnRedis, served: Served) -> None:
    store.send(signal.SIGKILL)
    served.until_answers_are("absent", NOTHING)
    served.and_then()
    said = served.state()
    assert (said["state"], said["store"]) == ("down", store.url)
    served.until(lambda: "refused" in served.state()["why"])

    store.start()
    served.until(lambda: served.state()["state"] == "empty")
    served.until_answers_are("absent", NOTHING)

    fill(store, tmp_path)
    served.until_answers_are("fresh", KNOWN)
    served.until(lambda: served.state()["state"] == "ok")


def test_a_store_that_hangs_costs_its_deadline_once_and_is_tried_aside(store: OwnRedis, served: Served) -> None:
    def failed(reason: str) -> float:
        return served.metric(f'lab_serving_feature_read_failures_total{{reason="{reason}"}}')

    timeouts, unasked = failed("timeout"), failed("down")
    store.send(signal.SIGSTOP)
    served.until_answers_are("absent", NOTHING)
    served.and_then(2000)
    assert failed("timeout") - timeouts <= 2
    assert failed("down") - unasked >= 100
    assert served.state()["state"] == "down"

    store.send(signal.SIGCONT)
    served.until_answers_are("fresh", KNOWN)


def test_a_wrong_password_is_said_and_a_right_one_is_taken(tmp_path: Path) -> None:
    store = OwnRedis(password="the right one")
    store.start()
    fill(store, tmp_path)
    file = tmp_path / "redis.password"
    file.write_text("a wrong one\n")
    served = Served(tmp_path, store, file)
    try:
        served.until_answers_are("absent", NOTHING)
        said = served.state()
        assert (said["state"], "WRONGPASS" in said["why"]) == ("down", True)
        assert "wrong one" not in json.dumps(said)
        assert b"wrong one" not in (tmp_path / "stderr").read_bytes()

        file.write_text("the right one\n")
        served.until_answers_are("fresh", KNOWN)
    finally:
        store.end()
        served.end()


def test_credentials_that_are_taken_away(tmp_path: Path, store: OwnRedis, served: Served) -> None:
    """What is connected stays so in Redis; what is connected anew needs the password."""
    with store.client() as client:
        client.config_set("requirepass", "secret")
        client.client_kill_filter(_type="normal", skipme=True)
    served.until_answers_are("absent", NOTHING)
    served.until(lambda: "NOAUTH" in served.state().get("why", ""))

    with redis.Redis(port=store.port, password="secret") as client:
        client.config_set("requirepass", "")
    served.until_answers_are("fresh", KNOWN)


def test_other_things_under_the_keys_of_rows(tmp_path: Path, store: OwnRedis, served: Served) -> None:
    with store.client() as client:
        for ref in rows_at_noon():
            client.delete(LAYOUT.redis_key(ref))
        for ref in rows_at_noon():
            client.set(LAYOUT.redis_key(ref), "a string")
    served.until_answers_are("fresh", NOTHING)
    served.and_then()
    assert served.state()["state"] == "ok"
    assert served.metric('lab_serving_feature_rows_total{came="unusable"}') > 100

    with store.client() as client:
        for ref in rows_at_noon():
            client.delete(LAYOUT.redis_key(ref))
            client.hset(LAYOUT.redis_key(ref), LAYOUT.redis_field(ref.view), b"\x0a\x05short")
    served.and_then()
    served.until_answers_are("fresh", NOTHING)

    with store.client() as client:
        client.flushall()
    fill(store, tmp_path)
    served.until_answers_are("fresh", KNOWN)
